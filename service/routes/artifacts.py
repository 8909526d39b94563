"""`/v1/adaptations/{id}/artifacts`."""

from http import HTTPStatus

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from service.adaptations.attempts import AttemptFiles
from service.adaptations.views import ADAPTATIONS, adaptation_artifacts
from service.http.auth import CallerDependency
from service.http.downloads import DOWNLOAD_RESPONSES, WishDependency, download, named
from service.http.problems import responses
from service.parts import PartsDependency
from service.schemas import ArtifactView

router = APIRouter(prefix=ADAPTATIONS, tags=["adaptations"])


@router.get("/{adaptation_id}/artifacts", summary="List artifacts", responses=responses(HTTPStatus.NOT_FOUND))
def list_artifacts(adaptation_id: str, parts: PartsDependency, caller: CallerDependency) -> tuple[ArtifactView, ...]:
    """The files of an adaptation; none until it has succeeded."""
    return adaptation_artifacts(parts.adaptations.get(adaptation_id, owner=caller.owner))


@router.get(
    "/{adaptation_id}/artifacts/{name}",
    summary="Download an artifact",
    response_class=StreamingResponse,
    responses=DOWNLOAD_RESPONSES,
)
def get_artifact(
    adaptation_id: str, name: str, parts: PartsDependency, caller: CallerDependency, wish: WishDependency
) -> Response:
    """One file, or a part of it, streamed. Its ETag is its hash."""
    adaptation = parts.adaptations.get(adaptation_id, owner=caller.owner)
    artifact = named(adaptation.artifacts, name)
    return download(parts.store, AttemptFiles(parts.store, adaptation).key(name), artifact, wish)
