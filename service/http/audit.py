"""The audit log is written around the routes: no route can forget it."""

import logging
from typing import Final

from anyio import CancelScope
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.auth import Principal
from service.http.request_ids import request_id
from service.records.audit import AuditRecords, Deed

READING_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
AUDITED: Final = "/v1/"

logger = logging.getLogger(__name__)


class AuditedRequests:
    """Writes down each request under `/v1` that may change something, before its answer begins.

    It stands behind the authentication: what came without a good key changes nothing and fills no table.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        audited = scope["type"] == "http" and scope["method"] not in READING_METHODS
        if not audited or not scope["path"].startswith(AUDITED):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        is_noted = False

        async def send_noted(message: Message) -> None:
            nonlocal is_noted
            if message["type"] == "http.response.start":
                is_noted = True
                await run_in_threadpool(_note, request, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except BaseException:  # answered with 500 outside of this, or given up: what it did may be done all the same
            if not is_noted:
                with CancelScope(shield=True):
                    await run_in_threadpool(_note, request, 500)
            raise


def _note(request: Request, status: int) -> None:
    caller: Principal = request.state.principal
    records: AuditRecords = request.app.state.parts.audit
    deed = Deed(
        owner=caller.owner,
        key_id=caller.key_id,
        request_id=request_id(request),
        action=getattr(request.scope.get("route"), "name", "none"),
        path=request.url.path,
        status=status,
    )
    try:
        records.add(deed)
    except SQLAlchemyError as error:  # the work is done, and its caller has to know
        logger.error("request=%s is missing in the audit log: %s: %s", deed.request_id, deed, error)
