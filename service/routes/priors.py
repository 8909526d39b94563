"""`/v1/priors`."""

from functools import partial
from http import HTTPStatus
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from service.http.auth import CallerDependency
from service.http.conditional import NOT_MODIFIED, IfNoneMatch, conditional
from service.http.downloads import DOWNLOAD_RESPONSES, WishDependency, download, named
from service.http.problems import responses
from service.http.uploads import receive
from service.parts import PartsDependency
from service.priors.catalog import PRIORS
from service.routes.bodies import PRIOR_FORM, prior_files
from service.routes.queries import Cursor, Limit
from service.schemas import PriorPage, PriorView, PromotionPage

router = APIRouter(prefix=PRIORS, tags=["priors"])
SpaceName = Annotated[str | None, Query(max_length=64, description="Name of a search space. Absent: all of them.")]


@router.get("", summary="List meta-priors", responses=responses(HTTPStatus.UNPROCESSABLE_ENTITY))
def list_priors(
    parts: PartsDependency,
    caller: CallerDependency,
    search_space: SpaceName = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> PriorPage:
    """Meta-priors of all search spaces or of one, in parts: the bundled ones first, then the oldest."""
    views, following = parts.prior_catalog.page(search_space, owner=caller.owner, limit=limit, cursor=cursor)
    return PriorPage(items=views, next_cursor=following)


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Import a meta-prior",
    openapi_extra={"requestBody": PRIOR_FORM},
    responses={
        200: {"description": "The same prior was imported before", "model": PriorView},
        **responses(
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.CONFLICT,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            HTTPStatus.INSUFFICIENT_STORAGE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
        ),
    },
)
async def import_prior(
    request: Request, response: Response, parts: PartsDependency, caller: CallerDependency
) -> PriorView:
    """Check a meta-prior that was made elsewhere, and keep it. What is refused leaves nothing behind."""
    async with receive(request, disk=parts.uploads, files=prior_files(parts.settings)) as body:
        add = partial(parts.prior_intake.add, body, owner=caller.owner)
        view, is_new = await to_thread.run_sync(add, limiter=parts.intake_threads)
    response.status_code = HTTPStatus.CREATED if is_new else HTTPStatus.OK
    response.headers["Location"] = f"{PRIORS}/{view.card.id}"
    return view


# Before the routes with an id: no prior is called so.
@router.get("/promotions", summary="List promotions", responses=responses(HTTPStatus.UNPROCESSABLE_ENTITY))
def list_promotions(
    parts: PartsDependency,
    caller: CallerDependency,
    search_space: SpaceName = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> PromotionPage:
    """Each time that a meta-prior was made its space's default, in parts: newest first."""
    views, following = parts.prior_catalog.promotions(search_space, owner=caller.owner, limit=limit, cursor=cursor)
    return PromotionPage(items=views, next_cursor=following)


@router.get(
    "/{prior_id}",
    summary="Get a meta-prior",
    response_model=PriorView,
    responses={**NOT_MODIFIED, **responses(HTTPStatus.NOT_FOUND)},
)
def get_prior(
    prior_id: str, parts: PartsDependency, caller: CallerDependency, if_none_match: IfNoneMatch = None
) -> Response:
    """What a meta-prior is, what it learned from, how to make it again, and its files."""
    return conditional(parts.prior_catalog.view(prior_id, owner=caller.owner), if_none_match)


@router.delete(
    "/{prior_id}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Delete a meta-prior",
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def delete_prior(prior_id: str, parts: PartsDependency, caller: CallerDependency) -> None:
    """Delete a meta-prior that nothing uses and that is no default. Its id is not given again."""
    parts.prior_catalog.delete(prior_id, owner=caller.owner)
    parts.housekeeping.wake()


@router.post("/{prior_id}/promote", summary="Promote a meta-prior", responses=responses(HTTPStatus.NOT_FOUND))
def promote_prior(prior_id: str, parts: PartsDependency, caller: CallerDependency) -> PriorView:
    """Make a meta-prior what requests of its search space begin from that name none, from now on."""
    return parts.prior_catalog.promote(prior_id, owner=caller.owner)


@router.get(
    "/{prior_id}/files/{name}",
    summary="Download a file of a meta-prior",
    response_class=StreamingResponse,
    responses=DOWNLOAD_RESPONSES,
)
def get_prior_file(
    prior_id: str, name: str, parts: PartsDependency, caller: CallerDependency, wish: WishDependency
) -> Response:
    """One file, or a part of it, streamed. Its ETag is its hash."""
    prior = parts.prior_catalog.get(prior_id, owner=caller.owner)
    return download(prior.store, prior.key(name), named(prior.files, name), wish)
