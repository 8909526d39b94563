"""What becomes of datasets that have arrived in parts, or are copied: they are pinned by their hash, and checked."""

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event
from typing import BinaryIO, Final

from sqlalchemy.exc import OperationalError

from search_spaces.errors import ArchPriorError, InvalidOptionError
from service.datasets.contents import ZIP, Contents
from service.datasets.sources import SourceError, Sources
from service.disk import Disk
from service.errors import DiskFullError, ForbiddenError, InvalidRequestError, UploadExpiredError
from service.http.problems import problem_of
from service.records.checks import CheckRecords
from service.records.datasets import DatasetRecords
from service.records.lease import Lease
from service.records.model import DatasetEntry
from workers.contracts.errors import InvalidDatasetError, ObjectMissingError, StoreError
from workers.store import layout
from workers.store.protocol import Store
from workers.tasks.archive import run_check
from workers.tasks.check_process import CheckFailedError, CheckKilledError, Checks
from workers.tasks.limits import ArchiveLimits

NUM_TRIES: Final = 3
"""Of a check that ends without a verdict, or with the service."""
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 300.0
BYTES_PER_ENTRY: Final = 2048
"""Memory that the check may take for each file beyond those of the usual limits."""

# Of the dataset, and of what else is needed: store, disks, memory, records.
_ITS_OWN: Final = (CheckKilledError, CheckFailedError)
_MAY_PASS: Final = (StoreError, DiskFullError, OSError, OperationalError)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Arrived:
    """An archive as a file of this machine, and how its bytes come under another key of the store."""

    path: Path
    sha256: str
    put: Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Checker:
    """Settles datasets: each becomes READY or REJECTED, whatever is killed on the way.

    What was broken off is done again, and does the same: an upload that was completed stays complete, bytes lie under
    their hash, and a state changes once.

    Attributes:
        records: Of the checks that are due, and how often each was tried.
        datasets: Records of datasets.
        store: Where they arrive.
        contents: Where those go that are good.
        sources: From which some are copied.
        checks: The checks of archives that run.
        disk: For archives that are no files of this machine, while they are checked.
        store_disk: On which the store lies; None: on none of this machine.
        housekeeping: The lease of who relies on nothing being removed, such as a backup.
        max_bytes: Largest archive that is taken.
        expires_s: Seconds after which what was begun and not completed is refused, and so is a source that could not be
            read so far.
    """

    records: CheckRecords
    datasets: DatasetRecords
    store: Store
    contents: Contents
    sources: Sources
    checks: Checks
    disk: Disk
    store_disk: Disk | None
    housekeeping: Lease
    max_bytes: int
    expires_s: int
    _owed: dict[str, DatasetEntry] = field(default_factory=dict, init=False, repr=False)
    _kept: dict[str, DatasetEntry] = field(default_factory=dict, init=False, repr=False)
    _stopping: Event = field(default_factory=Event, init=False, repr=False)

    def stop(self) -> None:
        """Have a check that is under way break off soon."""
        self._stopping.set()

    def due(self) -> tuple[DatasetEntry, ...]:
        """Return what is to be settled now: what was not completed in time, and the next dataset of each owner."""
        for entry in tuple(self._owed.values()):
            self.records.give_back(entry)
            del self._owed[entry.id]
        for entry in tuple(self._kept.values()):
            del self._kept[entry.id]
            self._forget(entry)
        return self.records.overdue(expires_s=self.expires_s) + self.records.arrived()

    def settle(self, entry: DatasetEntry) -> None:
        """Refuse a dataset that was not completed in time; check another one, or put it off for what may pass.

        Raises:
            SQLAlchemyError: The records failed.
        """
        if entry.state == "UPLOADING":
            todo = "Begin again; the parts may be sent side by side."
            what = f"the upload was not completed within {self.expires_s} s"
            self._reject(entry, UploadExpiredError(what, todo=todo))
        elif entry.num_tries >= NUM_TRIES:
            what = f"the check of the dataset was begun {entry.num_tries} times, and none came to an end"
            self._reject(entry, CheckKilledError(what, todo="Send it again; the service's log may say more."))
        elif self.records.begin(entry, pause_s=self._held_s(entry)):
            self._try(entry)

    def _held_s(self, entry: DatasetEntry) -> float:
        """Return the seconds for which a try is nobody else's: the last one until it must have come to its end.

        Another service may get this one's lease meanwhile, and would refuse the dataset.
        """
        is_last = entry.num_tries + 1 >= NUM_TRIES
        longest_s = limits_for(entry.num_bytes, max_bytes=self.max_bytes).timeout_s if is_last else 0.0
        return max(pause_after(entry.num_waits), longest_s)

    def _try(self, entry: DatasetEntry) -> None:
        try:
            accepted = self._check(entry)
        except ObjectMissingError:
            todo = "Send it again."
            self._reject(entry, InvalidDatasetError("the bytes of the dataset are gone", got=entry.source, todo=todo))
        except (InvalidDatasetError, InvalidRequestError, ForbiddenError) as error:
            self._reject(entry, error)
        except (*_ITS_OWN, *_MAY_PASS) as error:
            self._end_without_verdict(entry, error)
        else:
            logger.info("dataset=%s %s", entry.id, "is ready" if accepted else "was deleted while it was checked")
            self._forget(entry)

    def _check(self, entry: DatasetEntry) -> bool:
        """Record a dataset as READY if it is one; return whether it was still there."""
        with self._fetched(entry) as archive:
            _check_declared(entry, archive)
            limits = limits_for(entry.num_bytes, max_bytes=self.max_bytes)
            checked = run_check(archive.path, limits, self.checks)
            with self.contents.stored(archive.sha256, checked, num_bytes=entry.num_bytes, put=archive.put):
                return self.datasets.accepted(
                    entry, sha256=archive.sha256, report=checked.report, findings=checked.findings
                )

    def _end_without_verdict(self, entry: DatasetEntry, error: ArchPriorError | OSError | OperationalError) -> None:
        if self._stopping.is_set():
            self.records.give_back(entry)
            return
        counts, told = isinstance(error, _ITS_OWN), _told(error)
        # What was sent is kept for as long as it takes; a source may be gone for good.
        is_old = datetime.now(UTC) - entry.created_at >= timedelta(seconds=self.expires_s)
        problem = problem_of(told)
        # Once is never enough: it may have waited for something else until now.
        again = entry.error is not None and entry.error.code == problem.code
        is_lost = isinstance(error, SourceError) and is_old and again
        if is_lost or (counts and entry.num_tries + 1 >= NUM_TRIES):
            self._reject(entry, told)
            return
        if problem != entry.error:  # once, not at every try
            logger.warning("dataset=%s has to wait: %s", entry.id, error)
        if not counts:
            self._owed[entry.id] = entry  # should the records not answer now
        self.records.put_off(entry, problem, pause_s=pause_after(entry.num_waits), counts=counts)
        self._owed.pop(entry.id, None)

    @contextmanager
    def _fetched(self, entry: DatasetEntry) -> Iterator[_Arrived]:
        """Yield what has arrived, as a file of this machine."""
        if entry.source is not None:
            self._require_store_room(entry)
            with self._downloaded(self.sources.read(entry.source), entry) as (path, sha256):
                put = partial(self.store.put_file, path=path, media_type=ZIP, hand_over=True)
                yield _Arrived(path=path, sha256=sha256, put=put)
            return
        key = layout.upload(entry.id)
        self._complete(entry, key)
        path_there = self.store.local_path(key)
        if path_there is not None:
            sha256 = self._pinned(self.store.read(key), entry)
            put = partial(self.store.put_file, path=path_there, media_type=ZIP, hand_over=True)
            yield _Arrived(path=path_there, sha256=sha256, put=put)
            return
        with self._downloaded(self.store.read(key), entry) as (path, sha256):
            yield _Arrived(path=path, sha256=sha256, put=partial(self.store.copy, key))

    def _complete(self, entry: DatasetEntry, key: str) -> None:
        """Make one object of the parts; from then on nobody who was given an address can change it."""
        upload_id = entry.arrival.upload_id if entry.arrival else None
        if upload_id is None:
            raise InvalidDatasetError("nothing is known of how the dataset arrives", todo="Send it again.")
        if self.store.size(key) != entry.num_bytes:
            self._require_store_room(entry)
        try:
            self.store.complete_upload(key, upload_id, num_bytes=entry.num_bytes)
        except InvalidOptionError as error:  # parts were sent anew after they had been counted
            todo = "Begin again."
            raise InvalidDatasetError(error.what, got=error.got, expected=error.expected, todo=todo) from error

    def _require_store_room(self, entry: DatasetEntry) -> None:
        """Raise `DiskFullError` where the store lies on a disk that has no room for one more file of that size."""
        if self.store_disk is not None:
            self.store_disk.require(entry.num_bytes)

    @contextmanager
    def _downloaded(self, chunks: Iterable[bytes], entry: DatasetEntry) -> Iterator[tuple[Path, str]]:
        self.disk.require(entry.num_bytes)
        with tempfile.TemporaryDirectory(dir=self.disk.folder) as own:
            path = Path(own) / "archive.zip"
            with path.open("wb") as target:
                sha256 = self._pinned(chunks, entry, target)
            yield path, sha256

    def _pinned(self, chunks: Iterable[bytes], entry: DatasetEntry, target: BinaryIO | None = None) -> str:
        """Return the hash of what arrives, which is written to `target`."""
        digest, num_bytes = hashlib.sha256(), 0
        for chunk in chunks:
            if self._stopping.is_set():
                raise CheckKilledError("the service ends", todo="Its next start goes on.")
            digest.update(chunk)
            num_bytes += len(chunk)
            if num_bytes > entry.num_bytes:
                break
            if target is not None:
                target.write(chunk)
        if num_bytes != entry.num_bytes:
            raise InvalidDatasetError(
                "the dataset has another size than before",
                got=f"{num_bytes} bytes" if num_bytes < entry.num_bytes else "more bytes",
                expected=f"{entry.num_bytes} bytes",
                todo="Leave it as it is while it is copied.",
            )
        return digest.hexdigest()

    def _reject(self, entry: DatasetEntry, error: ArchPriorError) -> None:
        if self.datasets.rejected(entry, problem_of(error)):
            logger.info("dataset=%s is refused: %s", entry.id, error)
            self._forget(entry)  # of one that was completed meanwhile, or settled by another, nothing is taken

    def _forget(self, entry: DatasetEntry) -> None:
        """Remove what has arrived. What is left of it is found by its key, whose dataset is settled."""
        key = layout.upload(entry.id)
        if entry.arrival is None or entry.arrival.upload_id is None:
            return
        if self.housekeeping.is_held():  # by a backup perhaps, whose records may have it as it was before
            self._kept[entry.id] = entry
            return
        try:
            self.store.abort_upload(key, entry.arrival.upload_id)
            self.store.delete(key)
        except StoreError as error:
            logger.warning("dataset=%s is settled; what had arrived is left to housekeeping: %s", entry.id, error)


def pause_after(num_waits: int) -> float:
    """Return the seconds until a dataset is tried again that was put off so often before: each time twice as many."""
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(num_waits, 16)))


def limits_for(num_bytes: int, *, max_bytes: int) -> ArchiveLimits:
    """Return the limits of an archive of that size: those of the largest form, and of a larger one in proportion.

    Args:
        num_bytes: Of the archive.
        max_bytes: Largest archive that is taken.
    """
    usual = ArchiveLimits()
    factor = max(1.0, num_bytes / usual.max_archive_bytes)
    return ArchiveLimits(
        max_archive_bytes=max_bytes,
        max_entries=round(factor * usual.max_entries),
        max_unpacked_bytes=round(factor * usual.max_unpacked_bytes),
        timeout_s=round(factor * usual.timeout_s),
        max_memory_bytes=round(usual.max_memory_bytes + (factor - 1) * usual.max_entries * BYTES_PER_ENTRY),
    )


def _check_declared(entry: DatasetEntry, archive: _Arrived) -> None:
    if entry.declared_sha256 not in {None, archive.sha256}:
        raise InvalidDatasetError(
            "the bytes are not those that were announced",
            got=f"sha256 {archive.sha256}",
            expected=f"sha256 {entry.declared_sha256}",
            todo="Send it again; if the hash is wrong, leave it out.",
        )


def _told(error: ArchPriorError | OSError | OperationalError) -> ArchPriorError:
    """Return what the dataset's owner is told of an error: of this machine and its records, no more than that."""
    if isinstance(error, ArchPriorError):
        return error
    got = error.strerror if isinstance(error, OSError) else None
    todo = "It is tried again by itself; the service's log says more."
    return CheckFailedError("the service could not check the dataset", got=got, todo=todo)
