"""`/v1/datasets`."""

from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from service.datasets.views import DATASETS, dataset_path
from service.errors import NotFoundError
from service.http.auth import CallerDependency
from service.http.conditional import NOT_MODIFIED, IfNoneMatch, conditional
from service.http.idempotency import KeyHeader
from service.http.problems import responses
from service.http.uploads import Body, receive, receive_file
from service.parts import Parts, PartsDependency
from service.records.model import DatasetEntry
from service.routes.bodies import DATASET_BODY, PART_BODY, dataset_files
from service.routes.queries import Cursor, Limit
from service.schemas import DatasetChange, DatasetPage, DatasetState, DatasetView, UploadPartPage
from workers.store import layout
from workers.store.multipart import MAX_PARTS

PICTURE: Final = "image/jpeg"
_PICTURE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The picture", "content": {PICTURE: {"schema": {"type": "string", "format": "binary"}}}}
}

router = APIRouter(prefix=DATASETS, tags=["datasets"])

PartNumber = Annotated[int, Path(ge=1, le=MAX_PARTS)]


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Upload a zip of class folders, begin to, or have it copied",
    openapi_extra={"requestBody": DATASET_BODY},
    responses={
        200: {"description": "The same bytes were uploaded before", "model": DatasetView},
        202: {"description": "The source is copied and checked from now on", "model": DatasetView},
        **responses(
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.FORBIDDEN,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.TOO_MANY_REQUESTS,
            HTTPStatus.INSUFFICIENT_STORAGE,
        ),
    },
)
async def create_dataset(
    request: Request, response: Response, parts: PartsDependency, caller: CallerDependency, key: KeyHeader = None
) -> DatasetView:
    """Check a zip of class folders and keep it. The same bytes are one dataset, however often they come.

    A form brings it at once. Fields that are given change the dataset of bytes that were uploaded before; those that
    are absent stay.

    JSON with `num_bytes` begins a dataset that arrives in parts: send each to where `upload.parts` says, then POST to
    `upload.complete`. JSON with `source` has the service copy it. Both are checked afterwards: `state` tells the end.
    The same JSON with the same `Idempotency-Key` is answered with the dataset that the first one made.
    """
    async with receive(request, disk=parts.uploads, files=dataset_files(parts.settings)) as body:
        create = partial(_create, parts, body, owner=caller.owner, key=key)
        # What is only begun waits for no check.
        limiter = None if body.is_json else parts.intake_threads
        dataset, status = await to_thread.run_sync(create, limiter=limiter)
    if status is HTTPStatus.ACCEPTED:
        parts.check_loop.wake()
    response.status_code = status
    response.headers["Location"] = dataset_path(dataset.id)
    return await run_in_threadpool(parts.dataset_views.dataset, dataset)


def _create(parts: Parts, body: Body, *, owner: str, key: str | None) -> tuple[DatasetEntry, HTTPStatus]:
    if not body.is_json:
        dataset, is_new = parts.intake.add_dataset(body, owner=owner)
        return dataset, HTTPStatus.CREATED if is_new else HTTPStatus.OK
    if "source" in body.fields:
        return parts.arrivals.copy(body.fields, owner=owner, key=key), HTTPStatus.ACCEPTED
    return parts.arrivals.begin(body.fields, owner=owner, key=key), HTTPStatus.CREATED


@router.get("", summary="List datasets", responses=responses(HTTPStatus.UNPROCESSABLE_ENTITY))
def list_datasets(
    parts: PartsDependency,
    caller: CallerDependency,
    state: DatasetState | None = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> DatasetPage:
    """Datasets, newest first, in parts. How the parts of one arrive, `GET` of that one tells."""
    found, following = parts.datasets.page(owner=caller.owner, limit=limit, state=state, cursor=cursor)
    return DatasetPage(items=parts.dataset_views.listed(found), next_cursor=following)


@router.get(
    "/{dataset_id}",
    summary="Get a dataset",
    response_model=DatasetView,
    responses={**NOT_MODIFIED, **responses(HTTPStatus.NOT_FOUND)},
)
def get_dataset(
    dataset_id: str, parts: PartsDependency, caller: CallerDependency, if_none_match: IfNoneMatch = None
) -> Response:
    """One dataset, with what the check of its archive found.

    Where one that has arrived in parts, or was copied, has the bytes of an older dataset, that one is shown.
    """
    entry = parts.datasets.entry(dataset_id, owner=caller.owner)
    return conditional(parts.dataset_views.dataset(entry), if_none_match)


@router.patch(
    "/{dataset_id}",
    summary="Change a dataset",
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY),
)
def change_dataset(
    dataset_id: str, change: DatasetChange, parts: PartsDependency, caller: CallerDependency
) -> DatasetView:
    """Say whether meta-runs may learn from a dataset, and under which terms its images stand.

    A meta-run whose job runs goes on with what it was given; one that waits fails where it may no longer learn from it.
    """
    return parts.dataset_views.dataset(parts.datasets.change(dataset_id, change, owner=caller.owner))


@router.get(
    "/{dataset_id}/parts",
    summary="List the parts of a dataset that arrives",
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY),
)
def list_dataset_parts(
    dataset_id: str,
    parts: PartsDependency,
    caller: CallerDependency,
    after: Annotated[int, Query(ge=0, le=MAX_PARTS, description="Number of the last part seen.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most parts.")] = 100,
) -> UploadPartPage:
    """Where each part is to be sent, how long it is, and whether it is there. Addresses hold for six hours."""
    return parts.arrivals.parts(dataset_id, owner=caller.owner, after=after, limit=limit)


@router.put(
    "/{dataset_id}/parts/{number}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Send a part of a dataset",
    openapi_extra={"requestBody": PART_BODY},
    responses=responses(
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.INSUFFICIENT_STORAGE,
    ),
)
async def put_dataset_part(
    dataset_id: str, number: PartNumber, request: Request, parts: PartsDependency, caller: CallerDependency
) -> None:
    """Store a part, as the list of parts names it. Parts may come in any order, side by side, and again."""
    expect = partial(parts.arrivals.part_bytes, dataset_id, number, owner=caller.owner)
    num_bytes = await run_in_threadpool(expect)
    async with receive_file(request, disk=parts.uploads, num_bytes=num_bytes) as path:
        await run_in_threadpool(parts.arrivals.put_part, dataset_id, number, path, owner=caller.owner)


@router.post(
    "/{dataset_id}/complete",
    status_code=HTTPStatus.ACCEPTED,
    summary="Say that all parts of a dataset were sent",
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY),
)
def complete_dataset(dataset_id: str, parts: PartsDependency, caller: CallerDependency) -> DatasetView:
    """Have a dataset checked whose parts are all there; the refusal names those that are not.

    Once it is complete, completing it again changes nothing.
    """
    dataset = parts.arrivals.complete(dataset_id, owner=caller.owner)
    parts.check_loop.wake()
    return parts.dataset_views.dataset(dataset)


@router.get(
    "/{dataset_id}/thumbnails",
    summary="Get a picture of a dataset's images",
    response_class=Response,
    responses={**_PICTURE, **responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)},
)
def get_thumbnails(dataset_id: str, parts: PartsDependency, caller: CallerDependency) -> Response:
    """A row of small images for each class; `findings.thumbnails` says which."""
    dataset = parts.datasets.get(dataset_id, owner=caller.owner)
    if dataset.findings is None or dataset.findings.thumbnails is None:
        raise NotFoundError("the dataset has no thumbnails: an older version has checked it", got=dataset_id)
    picture = parts.store.get_bytes(layout.dataset_thumbnails(dataset.sha256))
    return Response(picture, media_type=PICTURE, headers={"Cache-Control": "private, max-age=3600"})
