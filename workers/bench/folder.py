"""The folder of a benchmark: its runs' records, written whole or not at all, and its results.

runs/KEY.json   a record for each run that has ended
results.json    all of them, with what they were measured on
store/          datasets, priors, and what the runs' attempts leave
cache/          decoded images
lock            held by the one process that works here
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from search_spaces.errors import ArchPriorError
from workers.bench.records import RunRecord
from workers.bench.runs import Run

RESULTS: Final = "results.json"


class BenchBusyError(ArchPriorError):
    """Another process works in the folder of a benchmark."""

    code = "bench_busy"


class BenchFolder:
    """A benchmark's folder; made where it is missing."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        (self.root / "runs").mkdir(parents=True, exist_ok=True)

    @property
    def store_url(self) -> str:
        """The address of the store for datasets, priors and attempts."""
        return str(self.root / "store")

    @property
    def cache(self) -> Path:
        """Where decoded images are kept."""
        return self.root / "cache"

    @property
    def results(self) -> Path:
        """The file of results."""
        return self.root / RESULTS

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for the block's time. The lock ends with the process, however it ends.

        Raises:
            BenchBusyError: Another process holds it; the message names it.
        """
        with (self.root / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise BenchBusyError(
                    f"a benchmark runs in this folder, process {lock.read().strip() or 'unknown'}",
                    got=str(self.root),
                    todo="Wait for it, or name another folder with --out.",
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def read(self, run: Run) -> RunRecord | None:
        """Return the record of a run, or None where it has not ended yet."""
        path = self._path(run)
        return RunRecord.from_stored(path.read_bytes(), str(path)) if path.exists() else None

    def records(self) -> Iterator[RunRecord]:
        """Yield the records of all runs that have ended, of any suite that was run here."""
        for path in sorted((self.root / "runs").glob("*.json")):
            yield RunRecord.from_stored(path.read_bytes(), str(path))

    def write(self, run: Run, record: RunRecord) -> None:
        """Keep the record of a run."""
        write_whole(self._path(run), record.model_dump_json(indent=1))

    def write_results(self, text: str) -> None:
        """Keep the results."""
        write_whole(self.results, text)

    def _path(self, run: Run) -> Path:
        return self.root / "runs" / f"{run.key}.json"


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is the old one or the new one, never a part of it."""
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
