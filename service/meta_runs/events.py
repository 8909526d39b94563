"""The events of a meta-run: a part of them, or all of them as they happen."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool

from service.errors import InvalidAttemptFileError
from service.meta_runs.attempts import MetaAttemptFiles
from service.records.meta_runs import MetaRunRecords
from service.records.model import MetaRun
from service.schemas import SETTLED_META_STATES, MetaEventPage
from workers.contracts.errors import StoreError
from workers.store.protocol import Store

MAX_EVENTS: Final = 1000
POLL_S: Final = 1.0
KEEPALIVE_S: Final = 15.0
"""Proxies close a connection on which nothing comes for longer."""

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


def event_page(store: Store, meta_run: MetaRun, *, after: int, limit: int) -> MetaEventPage:
    """Return at most `limit` events of the current attempt that come after the sequence number `after`.

    Raises:
        StoreError: The store cannot be asked.
        InvalidAttemptFileError: They cannot be read.
    """
    events = MetaAttemptFiles(store, meta_run).events()
    items = tuple(event for event in events if event.sequence > after)[:limit]
    return MetaEventPage(attempt=meta_run.attempt, items=items, next_after=items[-1].sequence if items else after)


@dataclass(frozen=True, kw_only=True)
class EventStream:
    """The events of one meta-run as server-sent events, until it has settled and all were told.

    An event's id names its attempt and its sequence number in it: both begin anew with a new attempt.

    Attributes:
        meta_runs: The records.
        store: Where events lie.
        poll_s: Seconds between two looks.
        keepalive_s: Seconds without an event after which a comment is sent.
    """

    meta_runs: MetaRunRecords
    store: Store
    poll_s: float = POLL_S
    keepalive_s: float = KEEPALIVE_S

    async def follow(self, meta_run: MetaRun, position: Position | None) -> AsyncIterator[bytes]:
        """Yield what comes after `position`; from the current attempt's first event where that is of another one."""
        at = position or Position(meta_run.attempt, 0)
        silent_s = 0.0
        while True:
            page, settled = await run_in_threadpool(self._look, meta_run, at)
            for event in page.items:
                at = Position(page.attempt, event.sequence)
                yield format_sse_event(data_str=event.model_dump_json(), id=str(at))
            silent_s = 0.0 if page.items else silent_s + self.poll_s
            if settled and not page.items:
                return
            if silent_s >= self.keepalive_s:
                silent_s = 0.0
                yield KEEPALIVE_COMMENT
            if not page.items:
                await asyncio.sleep(self.poll_s)

    def ended(self, meta_run: MetaRun, position: Position | None) -> bool:
        """Return whether a reader who has come that far has everything: then there is nothing to follow."""
        if position is None or meta_run.state not in SETTLED_META_STATES:
            return False
        return not self._look(meta_run, position)[0].items

    def _look(self, meta_run: MetaRun, at: Position) -> tuple[MetaEventPage, bool]:
        """Return the events that follow, and whether the meta-run had settled before they were read."""
        now = self.meta_runs.get(meta_run.id, owner=meta_run.owner)
        after = at.sequence if at.attempt == now.attempt else 0
        try:
            page = event_page(self.store, now, after=after, limit=MAX_EVENTS)
        except (StoreError, InvalidAttemptFileError) as error:
            logger.warning("meta_run=%s events cannot be read: %s", now.id, error)
            page = MetaEventPage(attempt=now.attempt, items=(), next_after=after)
        return page, now.state in SETTLED_META_STATES
