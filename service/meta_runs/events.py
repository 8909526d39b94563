"""The events of a meta-run: a part of them, or all of them as they happen."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from fastapi.sse import format_sse_event

from service.attempt_files import JobFiles
from service.errors import InvalidAttemptFileError
from service.events.hub import Hub, Snapshot, Source
from service.events.streams import KEEPALIVE_S, stream
from service.http.auth import Principal
from service.meta_runs.attempts import MetaAttemptFiles
from service.records.events import Standing
from service.records.model import MetaRun
from service.schemas import SETTLED_META_STATES, MetaEventPage
from workers.contracts.errors import StoreError
from workers.contracts.meta_runs import MetaEvent, MetaEvents
from workers.store import layout
from workers.store.protocol import Store

MAX_EVENTS: Final = 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Position:
    """How far a reader has come: the last event that it has, of which attempt; sequence 0: none yet."""

    attempt: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.attempt}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> "Position | None":
        """Return the position that an event's id tells, or None where it tells none."""
        attempt, dash, sequence = text.partition("-")
        if dash and all(part.isdecimal() and len(part) < 10 for part in (attempt, sequence)):
            return cls(int(attempt), int(sequence))
        return None


@dataclass(frozen=True, kw_only=True)
class ToldEvents:
    """What the job of an attempt has told, and whether the meta-run had settled before this was read."""

    attempt: int
    settled: bool
    events: tuple[MetaEvent, ...]


def event_page(store: Store, meta_run: MetaRun, *, after: int, limit: int) -> MetaEventPage:
    """Return at most `limit` events of the current attempt that come after the sequence number `after`.

    Raises:
        StoreError: The store cannot be asked.
        InvalidAttemptFileError: They cannot be read.
    """
    events = MetaAttemptFiles(store, meta_run).events()
    items = tuple(event for event in events if event.sequence > after)[:limit]
    return MetaEventPage(attempt=meta_run.attempt, items=items, next_after=items[-1].sequence if items else after)


def meta_events(store: Store) -> Source[ToldEvents]:
    """Return meta-runs as they are followed: the jobs tell their events in the store."""

    def read(meta_run_id: str, standing: Standing) -> ToldEvents:
        files = JobFiles(store, layout.meta_attempt(meta_run_id, standing.attempt))
        try:
            found = files.read("events.json", MetaEvents)
        except InvalidAttemptFileError as error:  # of another version than this service: nobody waits for it to change
            logger.warning("meta_run=%s events cannot be read: %s", meta_run_id, error)
            found = None
        events = () if found is None else found.events
        return ToldEvents(attempt=standing.attempt, settled=standing.settled, events=events)

    return Source(kind="meta_run", has_more=lambda _: True, read=read)


class MetaTeller:
    """Tells the events of the current attempt, and of later ones, until the meta-run has settled.

    An event's id names its attempt and its sequence number in it: both begin anew with a new attempt.

    Args:
        position: The last event that the reader has; one of another attempt is followed by the current one's first.
    """

    def __init__(self, position: Position) -> None:
        self._at = position
        self.is_done = False

    def tell(self, snapshot: Snapshot[ToldEvents]) -> Iterator[bytes]:
        told = snapshot.told
        if told is None:
            return
        after = self._at.sequence if self._at.attempt == told.attempt else 0
        for event in told.events:
            if event.sequence > after:
                self._at = Position(told.attempt, event.sequence)
                yield format_sse_event(data_str=event.model_dump_json(), id=str(self._at))
        self.is_done = told.settled and told.attempt == snapshot.standing.attempt


@dataclass(frozen=True, kw_only=True)
class EventStream:
    """The events of meta-runs as server-sent events, each until it has settled and all were told.

    Attributes:
        store: Where events lie.
        hub: Looks for them.
        keepalive_s: Seconds without an event after which a comment is sent.
    """

    store: Store
    hub: Hub
    keepalive_s: float = KEEPALIVE_S

    def follow(
        self, meta_run: MetaRun, position: Position | None, caller: Principal
    ) -> AbstractContextManager[AsyncIterator[bytes]]:
        """Return what yields, for a block's time, the lines after `position`; None: all of the current attempt's.

        Raises:
            QuotaExceededError: In its beginning: there are too many streams.
        """
        teller = MetaTeller(position or Position(meta_run.attempt, 0))
        following = self.hub.follow(meta_events(self.store), meta_run.id, caller)
        return stream(following, teller, keepalive_s=self.keepalive_s)

    def ended(self, meta_run: MetaRun, position: Position | None) -> bool:
        """Return whether a reader who has come that far has everything: then there is nothing to follow."""
        if position is None or meta_run.state not in SETTLED_META_STATES:
            return False
        after = position.sequence if position.attempt == meta_run.attempt else 0
        try:
            return not event_page(self.store, meta_run, after=after, limit=1).items
        except (StoreError, InvalidAttemptFileError) as error:
            logger.warning("meta_run=%s events cannot be read: %s", meta_run.id, error)
            return isinstance(error, InvalidAttemptFileError)
