"""Server-sent events: what a feed brings, as lines, until nothing more will come."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, NamedTuple, Protocol, TypeVar

from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Message, Receive, Scope, Send

from service.attempt_files import JobFiles
from service.events.hub import Feed, Snapshot, Source
from service.records.events import Standing
from service.schemas import ACTIVE_STATES
from workers.contracts.adaptations import Progress
from workers.store import layout
from workers.store.protocol import Store

KEEPALIVE_S: Final = 15.0
"""Proxies close a connection on which nothing comes for longer."""
SEND_TIMEOUT_S: Final = 60.0
"""A reader who takes nothing for so long is cut off."""
ENDED: Final = b": the stream ends here; take it up again with Last-Event-ID\n\n"
EVENT_STREAM: Final = {"content": {EventSourceResponse.media_type: {"schema": {"type": "string"}}}}
"""What OpenAPI shall say of an answer that may be a stream."""
HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

logger = logging.getLogger(__name__)

Told = TypeVar("Told")


class Teller(Protocol[Told]):
    """Makes lines of snapshots, and knows how far its reader has come."""

    @property
    def is_done(self) -> bool:
        """Whether its reader has everything, and nothing more will come."""

    def tell(self, snapshot: Snapshot[Told]) -> Iterator[bytes]:
        """Yield what of a snapshot its reader has not got."""


class ToldProgress(NamedTuple):
    """What the job of an attempt tells of its progress."""

    attempt: int
    progress: Progress


class StateTeller:
    """Tells events of state, numbered, and between them progress, which has no number: it is not told twice.

    Args:
        after: The last event that the reader has.
    """

    def __init__(self, after: int) -> None:
        self._after = after
        self._progress: Progress | None = None
        self.is_done = False

    def tell(self, snapshot: Snapshot[ToldProgress]) -> Iterator[bytes]:
        standing, told = snapshot.standing, snapshot.told
        for event in standing.events:
            if event.sequence > self._after:
                self._after = event.sequence
                yield format_sse_event(data_str=event.model_dump_json(), id=str(event.sequence))
        is_current = told is not None and told.attempt == standing.attempt and standing.state in ACTIVE_STATES
        if told is not None and is_current and told.progress != self._progress:
            self._progress = told.progress
            yield format_sse_event(data_str=told.progress.model_dump_json(), event="progress")
        self.is_done = standing.settled


def adaptations(store: Store) -> Source[ToldProgress]:
    """Return adaptations as they are followed: the jobs tell their progress in the store."""

    def read(adaptation_id: str, standing: Standing) -> ToldProgress | None:
        files = JobFiles(store, layout.attempt(adaptation_id, standing.attempt))
        progress = files.read("progress.json", Progress)
        return None if progress is None else ToldProgress(standing.attempt, progress)

    return Source(kind="adaptation", has_more=lambda standing: standing.state in ACTIVE_STATES, read=read)


def datasets() -> Source[ToldProgress]:
    """Return datasets as they are followed: of one, the store tells nothing."""
    return Source(kind="dataset", has_more=lambda _: False, read=lambda *_: None)


def wants_stream(accept: str) -> bool:
    """Return whether a request with that header asks for a stream."""
    return EventSourceResponse.media_type in accept


def position(last_event_id: str, after: int) -> int:
    """Return the last event that a reader has: as `Last-Event-ID` says it, else as `after` does."""
    is_ours = last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) < 10
    return int(last_event_id) if is_ours else after


async def lines(feed: Feed[Told], teller: Teller[Told], *, keepalive_s: float = KEEPALIVE_S) -> AsyncIterator[bytes]:
    """Yield what a feed brings, and a comment wherever nothing came for `keepalive_s` seconds."""
    clock = asyncio.get_running_loop().time
    last_s = clock()
    while not feed.closed:
        snapshot = await feed.news(last_s + keepalive_s - clock())
        if snapshot is not None:
            for line in teller.tell(snapshot):
                yield line
                last_s = clock()
            if teller.is_done:
                return
        if clock() >= last_s + keepalive_s and not feed.closed:
            yield KEEPALIVE_COMMENT
            last_s = clock()
    yield ENDED


@contextmanager
def stream(
    following: AbstractContextManager[Feed[Told]], teller: Teller[Told], *, keepalive_s: float = KEEPALIVE_S
) -> Iterator[AsyncIterator[bytes]]:
    """Yield the lines for a reader, who is among the followers for the block's time. Raises as `Hub.follow`."""
    with following as feed:
        yield lines(feed, teller, keepalive_s=keepalive_s)


class EventStreamResponse(EventSourceResponse):
    """The answer that streams to one reader.

    Args:
        streaming: Lets the reader in, as long as the answer lasts; what it refuses is answered as everywhere.
    """

    def __init__(self, streaming: AbstractContextManager[AsyncIterator[bytes]]) -> None:
        super().__init__((), headers=HEADERS)
        self._streaming = streaming

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streaming as self.body_iterator:
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            logger.info("a reader of events is cut off: it took nothing for %.0f s", SEND_TIMEOUT_S)
