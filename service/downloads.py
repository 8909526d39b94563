"""Files of finished work, streamed from the store whole or in part. An ETag is the file's hash."""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Response
from fastapi.responses import StreamingResponse

from search_spaces.errors import UnknownNameError, lookup
from service.errors import NotFoundError
from service.problems import responses
from service.ranges import parse_range
from workers.contracts.artifacts import Artifact
from workers.store.protocol import Store

DOWNLOAD_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    206: {"description": "The part that `Range` asks for"},
    304: {"description": "The client has these bytes already"},
    **responses(HTTPStatus.NOT_FOUND, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE),
}
"""What OpenAPI shall say of a download."""


@dataclass(frozen=True)
class Wish:
    """Which bytes a client asks for: the headers `Range`, `If-Range`, `If-None-Match`."""

    part: str | None
    if_range: str | None
    if_none_match: str | None


def _wish(
    range_header: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Wish:
    return Wish(range_header, if_range, if_none_match)


WishDependency = Annotated[Wish, Depends(_wish)]


def named(artifacts: Iterable[Artifact], name: str) -> Artifact:
    """Return the artifact of that name. Raises `NotFoundError`, which lists those there are."""
    try:
        return lookup({one.name: one for one in artifacts}, name, kind="artifact")
    except UnknownNameError as error:
        raise NotFoundError(error.what, got=name, expected=error.expected) from error


def download(store: Store, key: str, artifact: Artifact, wish: Wish) -> Response:
    """Return the answer that streams a file, or the part of it that is wished for.

    Args:
        store: Where it lies.
        key: Of the file in the store.
        artifact: Its name, size, hash and type.
        wish: Of the client.

    Raises:
        RangeNotSatisfiableError: The part holds no byte of the file.
        ObjectMissingError: The store has lost it.
    """
    etag = f'"{artifact.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{artifact.name}"',
    }
    if wish.if_none_match is not None and etag in wish.if_none_match:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    part = parse_range(wish.part if wish.if_range in {None, etag} else None, artifact.num_bytes)
    if part is None:
        headers["Content-Length"] = str(artifact.num_bytes)
        return StreamingResponse(store.read(key), media_type=artifact.media_type, headers=headers)
    headers["Content-Length"] = str(part.length)
    headers["Content-Range"] = f"bytes {part.start}-{part.start + part.length - 1}/{artifact.num_bytes}"
    return StreamingResponse(
        store.read(key, start=part.start, length=part.length),
        status_code=HTTPStatus.PARTIAL_CONTENT,
        media_type=artifact.media_type,
        headers=headers,
    )
