"""`DELETE /v1/datasets/{id}` and `/v1/gc`: what goes, and when."""

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter

from service.http.auth import CallerDependency, OperatorDependency
from service.http.problems import responses
from service.parts import PartsDependency
from service.schemas import GcForm, GcReport

router = APIRouter(prefix="/v1")
DRY_RUN: Final = GcForm()


@router.delete(
    "/datasets/{dataset_id}",
    tags=["datasets"],
    status_code=HTTPStatus.NO_CONTENT,
    summary="Delete a dataset",
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def delete_dataset(dataset_id: str, parts: PartsDependency, caller: CallerDependency) -> None:
    """Delete a dataset that no unfinished work needs, in whatever state it is; its bytes go soon after.

    What was made of it stays: results of adaptations, priors. The same bytes, sent again, are a new dataset.
    """
    parts.housekeeper.records.delete_dataset(dataset_id, owner=caller.owner)
    parts.housekeeping.wake()


@router.post(
    "/gc",
    tags=["housekeeping"],
    summary="Remove what nobody needs any more",
    responses=responses(HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY),
)
def collect_garbage(parts: PartsDependency, _: OperatorDependency, form: GcForm = DRY_RUN) -> GcReport:
    """Say what is garbage of all owners, or with `apply` remove it. For operators; one at a time.

    The answer comes when all of it was looked through, which takes minutes where a store holds a million objects.
    """
    return parts.housekeeper.gc(apply=form.apply)
