"""Answers that a client may have already: weak ETags, and 304 in place of the same body once more (RFC 9110, 13)."""

import hashlib
import re
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Header, Response

from workers.contracts.base import Contract

IfNoneMatch = Annotated[
    str | None, Header(description="ETags of bodies that the client has; 304 if the present one is among them.")
]
NOT_MODIFIED: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "The client has this body already"}}
"""What OpenAPI shall say of the answer without a body."""

_ETAG: Final = re.compile(r'"[^"]*"')


def conditional(view: Contract, if_none_match: str | None) -> Response:
    """Return the answer that shows a view, without a body where the client has it already.

    Args:
        view: That is to be shown.
        if_none_match: The header of that name.
    """
    body = view.model_dump_json()
    digest = f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"'
    # No cache on the way may answer for us, and the client's own asks each time.
    headers = {"ETag": f"W/{digest}", "Cache-Control": "private, no-cache"}
    if if_none_match is not None and (if_none_match.strip() == "*" or digest in _ETAG.findall(if_none_match)):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
