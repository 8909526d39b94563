"""Who a request comes from. Every row has an owner, and a caller sees its owner's rows only."""

import logging
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from search_spaces.errors import ArchPriorError
from service.errors import ForbiddenError, UnauthorizedError
from service.http.origins import require_own_page
from service.http.problems import answer_to
from service.http.request_ids import request_id
from service.records.keys import KeyRecords, Role
from service.records.model import LOCAL_OWNER

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
"""What is answered without a key: it tells nothing of anybody's rows."""
SCHEME: Final = "Bearer"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A caller.

    Attributes:
        owner: Whose rows it reads and writes.
        role: What it may do: an operator also reads what concerns the whole service.
        key_id: Of the key that it came with; None: this service has no keys.
    """

    owner: str
    role: Role
    key_id: str | None


LOCAL: Final = Principal(owner=LOCAL_OWNER, role="operator", key_id=None)
"""Every caller of a service without keys."""


def principal(authorization: str, keys: KeyRecords, *, may_be_open: bool) -> Principal:
    """Return who a request comes from. The records are asked each time, so a revoked key ends at once.

    Args:
        authorization: The request's header of that name; empty where there is none.
        keys: Of the service.
        may_be_open: Whether everyone who reaches the service may use it as long as it never had a key: one that
            is revoked must not open the service for whoever held it.

    Raises:
        UnauthorizedError: The request needs a key and has no good one.
    """
    scheme, _, token = authorization.partition(" ")
    key = keys.find(token.strip()) if scheme.lower() == SCHEME.lower() else None
    if key is not None:
        return Principal(owner=key.owner, role=key.role, key_id=key.id)
    if may_be_open and not keys.ever_existed():
        return LOCAL
    raise UnauthorizedError(
        "this key is not known, was revoked or has run out" if authorization else "this request needs an API key",
        expected=f"the header `Authorization: {SCHEME} KEY`",
        todo="Set ARCHPRIOR_API_KEY for the command line and the client; `archprior keys create` makes a key.",
    )


class Authentication:
    """Lets a request through to the routes once it is known who it comes from: no route can forget to ask.

    Its body is not read before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        parts = request.app.state.parts
        may_be_open = parts.settings.may_be_open
        authorization = request.headers.get("Authorization", "")
        try:
            found = await run_in_threadpool(principal, authorization, parts.keys, may_be_open=may_be_open)
            if found.key_id is None:
                require_own_page(request.headers, parts.settings)
        except (ArchPriorError, SQLAlchemyError) as error:
            if isinstance(error, UnauthorizedError):
                client = request.client.host if request.client else "unknown"
                logger.warning(
                    "request=%s %s %s: no good key, from %s",
                    request_id(request),
                    request.method,
                    request.url.path,
                    client,
                )
            await answer_to(request, error)(scope, receive, send)
            return
        request.state.principal = found
        await self._app(scope, receive, send)


_bearer = HTTPBearer(auto_error=False, description="An API key, made by `archprior keys create`.")


async def caller(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]) -> Principal:
    """Return who a request comes from."""
    found: Principal = request.state.principal
    return found


CallerDependency = Annotated[Principal, Depends(caller)]


async def operator(found: CallerDependency) -> Principal:
    """Return who a request comes from, if it is an operator. Raises `ForbiddenError`."""
    if found.role != "operator":
        todo = "`archprior keys create --role operator` makes a key that may."
        raise ForbiddenError("this takes an operator's key", got=f"a key of role {found.role}", todo=todo)
    return found


OperatorDependency = Annotated[Principal, Depends(operator)]
