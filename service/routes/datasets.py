"""`/v1/datasets`."""

from functools import partial
from http import HTTPStatus

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from service.auth import CallerDependency
from service.conditional import NOT_MODIFIED, IfNoneMatch, conditional
from service.parts import PartsDependency
from service.problems import responses
from service.routes.bodies import DATASET_FORM, dataset_files
from service.routes.queries import Cursor, Limit
from service.schemas import DatasetChange, DatasetPage, DatasetView
from service.uploads import receive
from service.views import dataset_view

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Upload a zip of class folders",
    openapi_extra={"requestBody": DATASET_FORM},
    responses={
        200: {"description": "The same bytes were uploaded before", "model": DatasetView},
        **responses(
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.TOO_MANY_REQUESTS,
        ),
    },
)
async def create_dataset(
    request: Request, response: Response, parts: PartsDependency, caller: CallerDependency
) -> DatasetView:
    """Check a zip of class folders and keep it. The same bytes are one dataset, however often they come.

    Fields that are given change the dataset of bytes that were uploaded before; those that are absent stay.
    """
    async with receive(request, folder=parts.uploads, files=dataset_files(parts.settings)) as body:
        add = partial(parts.intake.add_dataset, body, owner=caller.owner)
        dataset, is_new = await to_thread.run_sync(add, limiter=parts.intake_threads)
    response.status_code = HTTPStatus.CREATED if is_new else HTTPStatus.OK
    response.headers["Location"] = f"{router.prefix}/{dataset.id}"
    return dataset_view(dataset)


@router.get("", summary="List datasets", responses=responses(HTTPStatus.UNPROCESSABLE_ENTITY))
def list_datasets(
    parts: PartsDependency, caller: CallerDependency, limit: Limit = 20, cursor: Cursor = None
) -> DatasetPage:
    """Datasets, newest first, in parts."""
    found, following = parts.datasets.page(owner=caller.owner, limit=limit, cursor=cursor)
    return DatasetPage(items=tuple(map(dataset_view, found)), next_cursor=following)


@router.get(
    "/{dataset_id}",
    summary="Get a dataset",
    response_model=DatasetView,
    responses={**NOT_MODIFIED, **responses(HTTPStatus.NOT_FOUND)},
)
def get_dataset(
    dataset_id: str, parts: PartsDependency, caller: CallerDependency, if_none_match: IfNoneMatch = None
) -> Response:
    """One dataset, with what the check of its archive found."""
    return conditional(dataset_view(parts.datasets.get(dataset_id, owner=caller.owner)), if_none_match)


@router.patch(
    "/{dataset_id}",
    summary="Change a dataset",
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
)
def change_dataset(
    dataset_id: str, change: DatasetChange, parts: PartsDependency, caller: CallerDependency
) -> DatasetView:
    """Say whether meta-runs may learn from a dataset, and under which terms its images stand.

    A meta-run whose job runs goes on with what it was given; one that waits fails where it may no longer learn from it.
    """
    return dataset_view(parts.datasets.change(dataset_id, change, owner=caller.owner))
