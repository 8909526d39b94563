"""Files of finished work: from the store's own public address, or streamed, whole or in part. An ETag is the hash."""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from search_spaces.errors import UnknownNameError, lookup
from service.errors import NotFoundError
from service.http.problems import responses
from service.http.ranges import parse_range
from workers.contracts.artifacts import Artifact
from workers.contracts.errors import ObjectMissingError
from workers.store.protocol import Store

LINK_EXPIRES_S: Final = 900
"""For how long a download may begin at the address that the service names; it goes on for as long as it takes."""

DOWNLOAD_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    206: {"description": "The part that `Range` asks for"},
    304: {"description": "The client has these bytes already"},
    307: {"description": "The bytes lie at `Location`, for whoever asks within 15 minutes"},
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
    """Return the answer that sends the client to a file in a public store, or streams it, or the part wished for.

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
    # Parts never come from there: a store does not know the ETag in `If-Range`, and not every one says 206.
    link = _link(store, key, artifact) if wish.part is None else None
    if link is not None:
        return RedirectResponse(link, headers={"Cache-Control": "no-store"})
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


def _link(store: Store, key: str, artifact: Artifact) -> str | None:
    link = store.presigned_get(key, expires_s=LINK_EXPIRES_S, filename=artifact.name, media_type=artifact.media_type)
    if link is not None and store.size(key) is None:
        raise ObjectMissingError("the store has no such object", got=key)
    return link
