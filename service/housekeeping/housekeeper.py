"""Removes what nobody needs any more, and says what that is.

Only whoever holds the lease of housekeeping removes what a record once named: a backup that holds it sees nothing go.
What is found is looked at once more, under the lock of those who might be putting it there, or might want it again,
before it is removed.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from threading import Event
from typing import Final

from service.errors import ConflictError
from service.housekeeping import tenure
from service.housekeeping.looks import Looks
from service.housekeeping.plan import Find, Times
from service.housekeeping.tenure import Tenure, holding
from service.metrics import GcMetrics
from service.records.datasets import DatasetRecords
from service.records.facts import Remains
from service.records.housekeeping import HousekeepingRecords
from service.records.lease import Lease
from service.records.priors import PriorRecords
from service.schemas import GcItem, GcReport
from workers.contracts.errors import StoreError
from workers.store import layout
from workers.store.protocol import Store

MAX_ITEMS: Final = 1000
"""Items that a report names; it counts all."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Housekeeper:
    """Keeps records and store small.

    Attributes:
        records: That say what is needed.
        datasets: Whose bytes are put under the lock that is held to remove some.
        priors: As above.
        store: From which is removed.
        new_lease: Returns the lease of housekeeping for a holder of its own.
        retention_s: After which what could still be of use goes.
        metrics: Count what was removed.
    """

    records: HousekeepingRecords
    datasets: DatasetRecords
    priors: PriorRecords
    store: Store
    new_lease: Callable[[], Lease]
    retention_s: float
    metrics: GcMetrics
    _stopping: Event = field(default_factory=Event, init=False, repr=False)

    def stop(self) -> None:
        """Have what is being removed break off soon."""
        self._stopping.set()

    def gc(self, *, apply: bool) -> GcReport:
        """Remove what nobody needs any more, or only say what that is.

        Raises:
            ConflictError: Another round of it, or a backup, is under way.
            StoreError: The store failed; what was removed before is gone.
        """
        with holding(self.new_lease(), patience_s=tenure.PATIENCE_S) as held:
            items = self._remove(held) if apply else self._find()
            report = _report(items, applied=apply)
        if apply:
            logger.info("gc has removed %d things of %d bytes", report.num_items, report.num_bytes)
        return report

    def sweep(self) -> None:
        """Remove what is left of datasets and priors that were deleted.

        Raises:
            ConflictError: Another round, or a backup, is under way.
            StoreError: The store failed.
        """
        with holding(self.new_lease()) as held:
            for item in self._sweep(held):
                logger.info("gc %s: %s", item.what, item.why)

    def _find(self) -> Iterator[GcItem]:
        yield from (find.item() for find in Looks(self.store, self.records).rooms(self._times()))
        for table, num_rows in self.records.num_old(self.retention_s).items():
            yield from _rows(table, num_rows)

    def _remove(self, held: Tenure) -> Iterator[GcItem]:
        yield from self._sweep(held)
        looks, times = Looks(self.store, self.records), self._times()
        for find in looks.rooms(times):
            yield from self._remove_found(find, looks, times, held)
        while refused := self.records.refused(self.retention_s):
            for remains in refused:  # parts that arrived, which no list of objects shows
                self._check(held)
                yield from self._remove_remains(remains, held)
        num_rows: Counter[str] = Counter()
        for table, number in self.records.remove_old(self.retention_s):
            self._check(held)
            num_rows[table] += number
        for table, number in num_rows.items():
            self.metrics.note("row", number, 0)
            yield from _rows(table, number)

    def _sweep(self, held: Tenure) -> Iterator[GcItem]:
        failures: dict[str, StoreError] = {}  # what cannot be removed keeps nothing else from being removed
        while deleted := [one for one in self.records.deleted() if one.dataset_id not in failures]:
            for remains in deleted:
                self._check(held)
                try:
                    yield from self._remove_remains(remains, held)
                except StoreError as error:
                    failures[remains.dataset_id] = error
        looks, times = Looks(self.store, self.records), self._times()
        for find in looks.room("priors", times):
            if find.kind == "prior":
                yield from self._remove_found(find, looks, times, held)
        for failure in failures.values():
            raise failure

    def _remove_remains(self, remains: Remains, held: Tenure) -> Iterator[GcItem]:
        upload = layout.upload(remains.dataset_id)
        if remains.upload_id is not None:
            self.store.abort_upload(upload, remains.upload_id)
        self.store.delete(upload)
        if remains.sha256 is not None:
            with self.datasets.content(remains.sha256):
                if not self.datasets.is_named(remains.sha256):  # by another owner, or after it was sent again
                    folder = layout.dataset_archive(remains.sha256).rpartition("/")[0]
                    objects = tuple(self.store.list(f"{folder}/"))
                    why = f"dataset {remains.dataset_id} was deleted"
                    yield self._gone(Find(kind="dataset", what=folder, why=why, objects=objects), held)
        self.records.forget(remains)

    def _remove_found(self, find: Find, looks: Looks, times: Times, held: Tenure) -> Iterator[GcItem]:
        with self._lock_of(find):
            self._check(held)
            for one in looks.again(find, times):
                yield self._gone(one, held)

    def _gone(self, find: Find, held: Tenure) -> GcItem:
        for key in find.in_order():
            self._check(held)  # a slow store may have taken longer over the one before than the lease holds
            self.store.delete(key)
        item = find.item()
        self.metrics.note(item.kind, item.num_objects, item.num_bytes)
        return item

    def _check(self, held: Tenure) -> None:
        if self._stopping.is_set():
            raise ConflictError("the service ends", todo="Begin again when it is back: what was done is not lost.")
        held.check()

    def _lock_of(self, find: Find) -> AbstractContextManager[None]:
        room, name, *_ = find.what.split("/")
        match room:
            case "datasets":
                return self.datasets.content(name)
            case "meta-runs":
                return self.records.checkpoints(name)
            case "priors":
                return self.priors.incoming(name)
            case _:
                return nullcontext()

    def _times(self) -> Times:
        return Times(now_s=self.records.now(), retention_s=self.retention_s)


def _rows(table: str, number: int) -> Iterator[GcItem]:
    if number:
        yield GcItem(kind="row", what=f"{number} rows of {table}", why="they are old")


def _report(items: Iterator[GcItem], *, applied: bool) -> GcReport:
    first, num_items, num_bytes = [], 0, 0
    for item in items:
        if num_items < MAX_ITEMS:
            first.append(item)
        num_items += 1
        num_bytes += item.num_bytes
    return GcReport(applied=applied, items=tuple(first), num_items=num_items, num_bytes=num_bytes)
