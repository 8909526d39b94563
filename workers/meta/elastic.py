"""How many workers a run wants, and which of them go when it wants fewer. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from workers.contracts.meta_runs import WorkerState


@dataclass(frozen=True, kw_only=True)
class Room:
    """What the cluster has, beside what this run's workers hold already.

    Attributes:
        cpus, gpus: That nobody uses now.
    """

    cpus: float
    gpus: float


SILENT_S: Final = 15.0
NO_ROOM: Final = Room(cpus=0.0, gpus=0.0)


@dataclass(frozen=True, kw_only=True)
class Share:
    """What each worker takes."""

    cpus: int
    gpus: int

    def fits(self, room: Room) -> int:
        """Return how many workers there is room for."""
        by_cpu = int(room.cpus // self.cpus)
        return min(by_cpu, int(room.gpus // self.gpus)) if self.gpus else by_cpu


def num_wanted(
    *, num_now: int, room: Room, share: Share, max_workers: int | None, num_excluded: int = 0, cap: int | None
) -> int:
    """Return how many workers the run wants.

    Where the request names a number, that many are asked for whether or not there is room: on a cluster that grows by
    demand, a worker without a place is the demand. Else as many as there is room for, and at least one.

    Args:
        num_now: Workers that were started and are not to go.
        room: Left beside them.
        share: What each takes.
        max_workers: Of the request.
        num_excluded: Workers that were sent away for good: so many places stay empty.
        cap: By the service, so that adaptations find room; 0 pauses the run.
    """
    if max_workers is None:
        wanted = max(1, num_now + max(0, share.fits(room) - num_excluded))
    else:
        wanted = max(0, max_workers - num_excluded)
    return wanted if cap is None else min(wanted, cap)


def to_retire(workers: Sequence[tuple[str, WorkerState]], num_wanted: int) -> tuple[str, ...]:
    """Return the workers that go: those without a place first, then idle ones, then the newest of the busy.

    Args:
        workers: Name and state of each, oldest first.
        num_wanted: How many stay.
    """
    order: dict[WorkerState, int] = {"starting": 0, "idle": 1, "busy": 2}
    going = sorted(range(len(workers)), key=lambda place: (order[workers[place][1]], -place))
    return tuple(workers[place][0] for place in going[: max(0, len(workers) - num_wanted)])


def waited_for(share: Share, num_wanted: int, alone_s: float) -> str:
    """Return what a run waits for, in words; empty where it goes on.

    Args:
        share: What each worker takes.
        num_wanted: Workers that the run wants; 0: it is paused.
        alone_s: Seconds that it has been without any.
    """
    if num_wanted == 0:
        return "paused: the cluster's room is needed for adaptations"
    if alone_s > SILENT_S:
        return f"waiting for a worker to come up: each takes {share.cpus} CPUs and {share.gpus} GPUs"
    return ""
