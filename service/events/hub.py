"""Whoever follows events, and the one poller of this process that looks for them.

However many follow a work, one question a second to the records serves them all, and one to the store for each work
that runs. What was found is shared: a reader that is slow takes no memory, and no other's time.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Generic, TypeVar

from anyio import CapacityLimiter
from sqlalchemy.exc import SQLAlchemyError

from service.background import in_background
from service.errors import InvalidAttemptFileError, QuotaExceededError
from service.http.auth import Principal
from service.records.events import EventRecords, Followed, Standing, WorkKind
from service.records.keys import KeyRecords
from service.schemas import EventView
from workers.contracts.errors import StoreError

INTERVAL_S: Final = 1.0
KEY_CHECK_S: Final = 5.0
SETTLE_S: Final = 0.02
"""Those who come within so short a time are served by one look."""
MAX_STREAMS: Final = 1000
MAX_OF_OWNER: Final = 100
NUM_STORE_THREADS: Final = 8

Told = TypeVar("Told")
Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Source(Generic[Told]):
    """A kind of work that can be followed.

    Attributes:
        kind: Which one.
        has_more: Whether the store may tell more of a work that stands so.
        read: Returns what the store tells of it; None: nothing yet. It runs on a thread, and may raise `StoreError` and
            `InvalidAttemptFileError`.
    """

    kind: WorkKind
    has_more: Callable[[Standing], bool]
    read: Callable[[str, Standing], Told | None]


@dataclass(frozen=True, kw_only=True)
class Snapshot(Generic[Told]):
    """What is known of one work.

    Attributes:
        standing: As the records told it last, with all events that came after those that its first reader knew.
        told: What the store told last.
    """

    standing: Standing
    told: Told | None = None


class Feed(Generic[Told]):
    """One reader's view of one work. `closed` once nothing more will come to this reader."""

    def __init__(self, topic: "_Topic[Told]", caller: Principal) -> None:
        self._topic, self.caller = topic, caller
        self._seen = -1
        self.closed = False

    async def news(self, within_s: float) -> Snapshot[Told] | None:
        """Return the newest snapshot once there is one that this reader has not seen; None if none comes in time."""
        try:
            async with asyncio.timeout(within_s):
                while self._topic.snapshot is None or self._topic.version == self._seen:
                    if self.closed:
                        return None
                    await self._topic.changed.wait()
        except TimeoutError:
            return None
        self._seen = self._topic.version
        return self._topic.snapshot


@dataclass(eq=False)
class _Topic(Generic[Told]):
    """One work that is followed, for all who follow it.

    Attributes:
        floor: The least event that any of its readers has known.
        is_due: Whether it is to be looked at before its turn.
        is_read: Whether a thread is reading in the store for it.
    """

    source: Source[Told]
    work_id: str
    floor: int
    events: tuple[EventView, ...] = ()
    feeds: set[Feed[Told]] = field(default_factory=set)
    snapshot: Snapshot[Told] | None = None
    version: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    is_due: bool = True
    is_read: bool = False

    @property
    def key(self) -> Followed:
        return Followed(self.source.kind, self.work_id)

    @property
    def position(self) -> int:
        """The last event that is known."""
        return self.events[-1].sequence if self.events else self.floor

    @property
    def may_be_read(self) -> bool:
        """Whether the store may tell more, and nobody is asking it."""
        return not self.is_read and self.snapshot is not None and self.source.has_more(self.snapshot.standing)

    def join(self, feed: Feed[Told], after: int) -> None:
        """Take one more reader, who knows events up to `after`."""
        self.feeds.add(feed)
        if after < self.floor:
            self.floor, self.events = after, ()
        elif self.snapshot is None or not self.snapshot.standing.settled:
            return  # what is known is less than a second old
        # Has to be looked for: older events, or whether a meta-run that had settled was resumed.
        self.snapshot, self.is_due = None, True

    def learn(self, asked: int, standing: Standing) -> bool:
        """Take what the records told of what comes after `asked`; return whether it was still of use, and new."""
        if asked != self.position:  # somebody came meanwhile who knows less
            return False
        self.is_due = False
        self.events += standing.events
        known = replace(standing, events=self.events)
        told = None if self.snapshot is None else self.snapshot.told
        return self.publish(Snapshot(standing=known, told=told))

    def publish(self, snapshot: Snapshot[Told]) -> bool:
        """Hand a snapshot to all readers, if it says anything new; return whether it did."""
        if snapshot == self.snapshot:
            return False
        self.snapshot = snapshot
        self.version += 1
        self.wake()
        return True

    def wake(self) -> None:
        """Have all readers look."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class Hub:
    """The followers of this process. Its methods belong to the event loop, but for `close`.

    Args:
        events: Where events are recorded.
        keys: The service's: a stream ends soon after its key.
        interval_s: Seconds between two looks.
        key_check_s: Seconds between two looks at the keys of those who follow.
        max_of_owner: Streams that one owner may have at once.
        max_streams: Streams of all owners.
    """

    def __init__(
        self,
        events: EventRecords,
        keys: KeyRecords,
        *,
        interval_s: float = INTERVAL_S,
        key_check_s: float = KEY_CHECK_S,
        max_of_owner: int = MAX_OF_OWNER,
        max_streams: int = MAX_STREAMS,
    ) -> None:
        self._events, self._keys = events, keys
        self._interval_s, self._key_check_s = interval_s, key_check_s
        self._max_of_owner, self._max_streams = max_of_owner, max_streams
        self._topics: dict[Followed, _Topic[Any]] = {}
        self._of_owner: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._poller: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._is_closed = False
        self._last_error = ""

    @property
    def num_streams(self) -> int:
        """How many follow something now."""
        return self._of_owner.total()

    @contextmanager
    def follow(self, source: Source[Told], work_id: str, caller: Principal, *, after: int = 0) -> Iterator[Feed[Told]]:
        """Yield a reader's feed, for the block's time.

        Args:
            source: Which kind of work.
            work_id: Which one: the caller may read it.
            caller: Whose the reader is.
            after: The number of the last event that the reader knows.

        Raises:
            QuotaExceededError: There are too many streams.
        """
        self._admit(caller.owner)
        key = Followed(source.kind, work_id)
        topic: _Topic[Told] = self._topics.setdefault(key, _Topic(source, work_id, after))
        feed = Feed(topic, caller)
        feed.closed = self._is_closed
        topic.join(feed, after)
        self._of_owner[caller.owner] += 1
        self._run()
        try:
            yield feed
        finally:
            topic.feeds.discard(feed)
            if not topic.feeds:
                del self._topics[key]
            self._of_owner[caller.owner] -= 1
            self._of_owner += Counter()  # forgets owners without streams
            self._woken.set()

    def close(self) -> None:
        """End all streams, and let nobody follow any more. From any thread."""
        self._is_closed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end, lambda _: True)

    def _admit(self, owner: str) -> None:
        if self._of_owner[owner] >= self._max_of_owner or self.num_streams >= self._max_streams:
            raise QuotaExceededError(
                "too many streams of events are open",
                retry_after_s=10.0,
                expected=f"at most {self._max_of_owner} of one owner, {self._max_streams} in all",
                todo="Close some, or ask for the events as JSON.",
            )

    def _end(self, whose: Callable[[Principal], bool]) -> None:
        for topic in self._topics.values():
            for feed in topic.feeds:
                feed.closed = feed.closed or whose(feed.caller)
            topic.wake()
        self._woken.set()

    def _run(self) -> None:
        """Have a poller look at once."""
        self._woken.set()
        if self._poller is None or self._poller.done():
            self._loop = asyncio.get_running_loop()
            self._woken = asyncio.Event()
            self._poller = asyncio.create_task(self._poll(), name="events")
            self._poller.add_done_callback(_tell_of_failure)

    async def _poll(self) -> None:
        """Look, as long as anybody follows."""
        clock = asyncio.get_running_loop().time
        records, store = CapacityLimiter(1), CapacityLimiter(NUM_STORE_THREADS)
        reads: set[asyncio.Task[None]] = set()
        next_look_s, next_key_check_s = clock(), clock() + self._key_check_s
        try:
            while self._topics and not self._is_closed:
                await asyncio.sleep(min(SETTLE_S, self._interval_s))
                topics = tuple(self._topics.values())
                if clock() >= next_look_s:
                    next_look_s = clock() + self._interval_s
                else:
                    topics = tuple(topic for topic in topics if topic.is_due)
                if not await self._look(topics, records):
                    await asyncio.sleep(self._interval_s)
                    continue
                for topic in topics:
                    if topic.may_be_read:
                        topic.is_read = True
                        read = asyncio.create_task(self._read(topic, store))
                        reads.add(read)
                        read.add_done_callback(reads.discard)
                if clock() >= next_key_check_s:
                    await self._check_keys(records)
                    next_key_check_s = clock() + self._key_check_s
                await self._pause(next_look_s - clock())
        finally:  # what an unexpected error ends is told as ended
            for read in reads:
                read.cancel()
            self._end(lambda _: True)

    async def _pause(self, seconds: float) -> None:
        """Wait until it is time for the next look, or somebody has come."""
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                while not self._is_closed and not any(topic.is_due for topic in self._topics.values()):
                    self._woken.clear()
                    await self._woken.wait()
                    if not self._topics:
                        return
        except TimeoutError:
            return

    async def _look(self, topics: tuple[_Topic[Any], ...], records: CapacityLimiter) -> bool:
        """Ask the records how far these works have come; return whether they could be asked."""
        after = {topic.key: topic.position for topic in topics}
        found = await self._asked(partial(self._events.standings, after), records)
        if found is None:
            return False
        for topic in topics:
            topic.learn(after[topic.key], found[topic.key])
        return True

    async def _read(self, topic: _Topic[Any], store: CapacityLimiter) -> None:
        """Read in the store for all who follow a work. While it hangs, events of state and other works' reads go on."""
        if topic.snapshot is None:
            topic.is_read = False
            return
        read = partial(topic.source.read, topic.work_id, topic.snapshot.standing)
        try:
            async with store:
                told = await in_background(read)
        except (StoreError, InvalidAttemptFileError) as error:
            logger.warning("work=%s what its job tells cannot be read: %s", topic.work_id, error)
            return
        finally:
            topic.is_read = False
        if topic.snapshot is not None and told is not None:
            topic.publish(replace(topic.snapshot, told=told))

    async def _check_keys(self, records: CapacityLimiter) -> None:
        """End the streams whose keys were revoked or have run out."""
        callers = {feed.caller for topic in self._topics.values() for feed in topic.feeds}
        ids = frozenset(caller.key_id for caller in callers if caller.key_id is not None)
        is_open = any(caller.key_id is None for caller in callers)
        good = await self._asked(partial(self._keys.good, ids, is_open=is_open), records)
        if good is not None and any(caller.key_id not in good for caller in callers):
            self._end(lambda caller: caller.key_id not in good)

    async def _asked(self, question: Callable[[], Answer], records: CapacityLimiter) -> Answer | None:
        """Return what the records answer; None where they cannot be asked."""
        try:
            async with records:
                answer = await in_background(question)
        except SQLAlchemyError as error:
            if str(error) != self._last_error:  # once, not at every look
                logger.error("events cannot be read: %s", error)
            self._last_error = str(error)
            return None
        self._last_error = ""
        return answer


def _tell_of_failure(poller: asyncio.Task[None]) -> None:
    error = None if poller.cancelled() else poller.exception()
    if error is not None:
        logger.error("the streams of events have ended", exc_info=error)
