"""`/v1/adaptations`."""

from functools import partial
from http import HTTPStatus

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from service.adaptations.views import ADAPTATIONS, adaptation_path
from service.http.auth import CallerDependency
from service.http.conditional import NOT_MODIFIED, IfNoneMatch, conditional
from service.http.idempotency import KeyHeader
from service.http.problems import responses
from service.http.uploads import receive
from service.parts import PartsDependency
from service.routes.bodies import ADAPTATION_BODY, dataset_files
from service.routes.queries import Cursor, Limit
from service.schemas import AdaptationPage, AdaptationState, AdaptationView

router = APIRouter(prefix=ADAPTATIONS, tags=["adaptations"])


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    summary="Adapt a network to a dataset",
    openapi_extra={"requestBody": ADAPTATION_BODY},
    responses=responses(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.INSUFFICIENT_STORAGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.TOO_MANY_REQUESTS,
    ),
)
async def create_adaptation(
    request: Request, response: Response, parts: PartsDependency, caller: CallerDependency, key: KeyHeader = None
) -> AdaptationView:
    """Queue an adaptation to the zip that comes along, or to a dataset that is here already.

    What cannot end well is refused at once, and nothing is kept of it. The same request with the same
    `Idempotency-Key` is answered with the adaptation that the first one made, as it stands now.
    """
    async with receive(request, disk=parts.uploads, files=dataset_files(parts.settings)) as body:
        add = partial(parts.intake.add_adaptation, body, owner=caller.owner, key=key)
        adaptation = await to_thread.run_sync(add, limiter=parts.intake_threads)
    parts.loop.wake()
    response.headers["Location"] = adaptation_path(adaptation.id)
    return await run_in_threadpool(parts.views.adaptation, adaptation)


@router.get("", summary="List adaptations", responses=responses(HTTPStatus.UNPROCESSABLE_ENTITY))
def list_adaptations(
    parts: PartsDependency,
    caller: CallerDependency,
    state: AdaptationState | None = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> AdaptationPage:
    """Adaptations, newest first, in parts."""
    found, following = parts.adaptations.page(owner=caller.owner, limit=limit, state=state, cursor=cursor)
    return AdaptationPage(items=parts.views.listed(found), next_cursor=following)


@router.get(
    "/{adaptation_id}",
    summary="Get an adaptation",
    response_model=AdaptationView,
    responses={**NOT_MODIFIED, **responses(HTTPStatus.NOT_FOUND)},
)
def get_adaptation(
    adaptation_id: str, parts: PartsDependency, caller: CallerDependency, if_none_match: IfNoneMatch = None
) -> Response:
    """One adaptation as it stands now, with its progress."""
    adaptation = parts.adaptations.get(adaptation_id, owner=caller.owner)
    return conditional(parts.views.adaptation(adaptation), if_none_match)


@router.post(
    "/{adaptation_id}/cancel",
    status_code=HTTPStatus.ACCEPTED,
    summary="Cancel an adaptation",
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def cancel_adaptation(adaptation_id: str, parts: PartsDependency, caller: CallerDependency) -> AdaptationView:
    """Ask an adaptation to end. One that finishes in the same moment has succeeded all the same."""
    adaptation = parts.adaptations.request_cancel(adaptation_id, owner=caller.owner)
    parts.loop.wake()
    return parts.views.adaptation(adaptation)
