"""What an arm is told, and what it answers. Neither has room for a table."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from benchmarks.nas_bench_201.cells import digits_of
from search_spaces.architecture import Architecture
from workers.contracts.base import Contract, StoredContract

Clock = Literal["wall", "cpu"]


class Job(Contract):
    """One run of an arm.

    Attributes:
        arm: Its name.
        max_macs: Of the benchmark's network.
        seconds: To choose in, once the images are in memory.
        threads: That cells are judged on, side by side; `ours` with a prior that contracts has them within a network.
        clock: Of the seconds. `cpu`: those of CPU over the number of threads, for a machine that others use too; an
            arm one of whose threads is idle gets more by it.
        images: Folder that `images.write_task` wrote.
        epochs: That the chosen cell will be trained for. Only `ours` reads it.
        prior: Folder of a prior; None: search from fresh weights. Only `ours` reads it.
    """

    arm: str
    max_macs: int
    seed: int = Field(ge=0)
    seconds: float = Field(gt=0)
    threads: int = Field(ge=1)
    clock: Clock = "wall"
    images: Path
    epochs: int = Field(12, ge=1)
    prior: Path | None = None


class Choice(Contract):
    """What an arm chose.

    Attributes:
        cells: Six digits each; those that the arm's rule cannot tell apart are judged by their mean.
        num_judged: Cells that it looked at.
        note: In words, what it went by.
    """

    cells: tuple[str, ...] = Field(min_length=1)
    num_judged: int = Field(ge=0)
    note: str = ""


class Decision(StoredContract):
    """A choice, written before any table is opened.

    Attributes:
        used_s: Seconds by the job's clock.
        wall_s: Seconds by the wall's clock.
        cpu_s: Seconds of CPU, of all threads.
        decided_at: The time of day.
    """

    choice: Choice
    used_s: float
    wall_s: float
    cpu_s: float
    decided_at: datetime = Field(default_factory=lambda: datetime.now(UTC))


def one(cell: Architecture, num_judged: int, note: str) -> Choice:
    """Return the choice of one cell."""
    return Choice(cells=(digits_of(cell),), num_judged=num_judged, note=note)


def clock_of(job: Job) -> Callable[[], float]:
    """Return what tells the seconds of a job."""
    if job.clock == "wall":
        return time.monotonic
    return lambda: time.process_time() / job.threads
