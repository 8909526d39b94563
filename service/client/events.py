"""Events as they happen: by a stream that takes up where the last one broke off, and by asking where there is none."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus
from typing import Final

from pydantic import ValidationError

from service.client.connection import Connection, FailedTry
from service.client.errors import ServiceError
from service.client.requests import Request
from service.schemas import EventPage, EventView

EVENT_STREAM: Final = "text/event-stream"
SILENCE_S: Final = 45.0
"""The service says something each 15 s; a stream that is silent for longer is dead."""

NO_STREAMS: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_ACCEPTABLE,
                               HTTPStatus.NOT_IMPLEMENTED})  # fmt: skip


async def follow(
    connection: Connection,
    path: str,
    *,
    page: Callable[[int], Awaitable[EventPage]],
    ended: Callable[[], Awaitable[bool]],
    after: int,
    poll_s: float,
) -> AsyncGenerator[EventView, None]:
    """Yield events until what they are about has ended and all were told, each once and in order.

    Args:
        connection: To the service.
        path: Of the events.
        page: Returns the events after a sequence.
        ended: Whether there will be no more events than those that are recorded now.
        after: Sequence of the last event that is known already.
        poll_s: Seconds between the end of a stream and the next.
    """
    streams = True
    while True:
        if streams:
            async with aclosing(_streamed(connection, path, after)) as events:
                try:
                    async for event in events:
                        after = event.sequence
                        yield event
                except _NoStreamError:
                    streams = False
        # A stream that is over may have broken: only the records know whether that was all.
        over = await ended()
        found = await page(after)
        for event in found.items:
            after = event.sequence
            yield event
        if over and not found.items:
            return
        if not found.items:
            await connection.transport.sleep(poll_s)


class _NoStreamError(Exception):
    """The service, or something in front of it, gives no streams."""


async def _streamed(connection: Connection, path: str, after: int) -> AsyncGenerator[EventView, None]:
    """Yield the events of one stream until it ends or breaks.

    Raises:
        _NoStreamError: There is none to be had.
    """
    headers = {"Accept": EVENT_STREAM, "Cache-Control": "no-store"}
    if after:
        headers["Last-Event-ID"] = str(after)
    request = Request(method="GET", target=path, headers=headers, timeout_s=SILENCE_S)
    try:
        async with connection.open(request) as answer:
            if answer.response.status_code == HTTPStatus.NO_CONTENT:
                return
            if not answer.response.headers.get("Content-Type", "").startswith(EVENT_STREAM):
                raise _NoStreamError
            async for told in answer.events():
                event = _event(told.id, told.data)
                if event is not None and event.sequence > after:
                    after = event.sequence
                    yield event
    except FailedTry as failed:
        if isinstance(failed.error, ServiceError) and failed.error.problem.status in NO_STREAMS:
            raise _NoStreamError from failed.error
        # Whatever else it was, asking for the rest will show: that is retried, and tells what is wrong.


def _event(id_: str, data: str) -> EventView | None:
    """Return what a server-sent event tells, or None where it is of another kind, such as progress in between."""
    try:
        return EventView.model_validate_json(data) if id_ else None
    except ValidationError:
        return None
