"""What no request may be: larger than the limits, or with characters in its address that no record can hold."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from search_spaces.errors import ArchPriorError
from service.errors import HeadersTooLargeError, InvalidRequestError, TooLargeError
from service.http.problems import answer_to

STREAMED: Final = frozenset({"multipart/form-data", "application/octet-stream"})
"""What routes take from the stream that they bound themselves."""
NUM_SEPARATORS: Final = 4
"""Bytes of `: ` and of the line's end, which a header takes besides its name and value."""


class RequestLimits:
    """Refuses what is beyond the limits, before more of it is read.

    Args:
        app: What is behind.
        max_header_bytes: Of all headers together.
        max_body_bytes: Of a body; a route that takes files bounds each of them itself, as they stream in.
    """

    def __init__(self, app: ASGIApp, *, max_header_bytes: int, max_body_bytes: int) -> None:
        self._app, self._max_header_bytes, self._max_body_bytes = app, max_header_bytes, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await answer_to(Request(scope), refusal)(scope, receive, send)
            return
        num_bytes = 0

        async def receive_bounded() -> Message:
            nonlocal num_bytes
            message = await receive()
            # Whoever reads the body is the route, so by now it is known which one that is.
            if message["type"] == "http.request" and not _takes_files(scope):
                num_bytes += len(message.get("body", b""))
                if num_bytes > self._max_body_bytes:
                    raise TooLargeError(
                        "the request's body is too large", expected=f"at most {self._max_body_bytes} bytes"
                    )
            return message

        await self._app(scope, receive_bounded, send)

    def _refusal(self, scope: Scope) -> ArchPriorError | None:
        num_bytes = sum(len(name) + len(value) + NUM_SEPARATORS for name, value in scope["headers"])
        if num_bytes > self._max_header_bytes:
            expected = f"at most {self._max_header_bytes} bytes"
            return HeadersTooLargeError(
                "the request's headers are too large", got=f"{num_bytes} bytes", expected=expected
            )
        # PostgreSQL holds no NUL in a text, and SQLite would.
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            return InvalidRequestError("the address holds a NUL character")
        return None


def _takes_files(scope: Scope) -> bool:
    extra: Mapping[str, Any] = getattr(scope.get("route"), "openapi_extra", None) or {}
    return not STREAMED.isdisjoint(extra.get("requestBody", {}).get("content", {}))
