"""`/v1/adaptations/{id}/artifacts`."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse

from search_spaces.errors import UnknownNameError, lookup
from service.attempts import AttemptFiles
from service.errors import NotFoundError
from service.parts import PartsDependency
from service.problems import responses
from service.ranges import parse_range
from service.records.model import LOCAL_OWNER
from service.schemas import ArtifactView
from service.views import ADAPTATIONS, artifact_views

router = APIRouter(prefix=ADAPTATIONS, tags=["adaptations"])


@router.get("/{adaptation_id}/artifacts", summary="List artifacts", responses=responses(HTTPStatus.NOT_FOUND))
def list_artifacts(adaptation_id: str, parts: PartsDependency) -> tuple[ArtifactView, ...]:
    """The files of an adaptation; none until it has succeeded."""
    return artifact_views(parts.adaptations.get(adaptation_id, owner=LOCAL_OWNER))


@router.get(
    "/{adaptation_id}/artifacts/{name}",
    summary="Download an artifact",
    response_class=StreamingResponse,
    responses={
        206: {"description": "The part that `Range` asks for"},
        304: {"description": "The client has these bytes already"},
        **responses(HTTPStatus.NOT_FOUND, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE),
    },
)
def get_artifact(
    adaptation_id: str,
    name: str,
    parts: PartsDependency,
    range_header: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """One file, or a part of it, streamed. Its ETag is its hash."""
    adaptation = parts.adaptations.get(adaptation_id, owner=LOCAL_OWNER)
    try:
        artifact = lookup({one.name: one for one in adaptation.artifacts}, name, kind="artifact")
    except UnknownNameError as error:
        raise NotFoundError(error.what, got=name, expected=error.expected) from error
    etag = f'"{artifact.sha256}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Disposition": f'attachment; filename="{name}"'}
    if if_none_match is not None and etag in if_none_match:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    part = parse_range(range_header if if_range in {None, etag} else None, artifact.num_bytes)
    key = AttemptFiles(parts.store, adaptation).key(name)
    if part is None:
        headers["Content-Length"] = str(artifact.num_bytes)
        return StreamingResponse(parts.store.read(key), media_type=artifact.media_type, headers=headers)
    headers["Content-Length"] = str(part.length)
    headers["Content-Range"] = f"bytes {part.start}-{part.start + part.length - 1}/{artifact.num_bytes}"
    return StreamingResponse(
        parts.store.read(key, start=part.start, length=part.length),
        status_code=HTTPStatus.PARTIAL_CONTENT,
        media_type=artifact.media_type,
        headers=headers,
    )
