"""Ways to choose a cell within a cap. None of them knows a table; what they may know is in a `Job`."""

from collections.abc import Callable, Mapping
from typing import Final

from benchmarks.nas_bench_201 import ours, random_best
from benchmarks.nas_bench_201.cells import digits_of, most_params
from benchmarks.nas_bench_201.job import Choice, Job
from benchmarks.nas_bench_201.zero_cost import by_score, naswot, synflow
from workers.adapt.data import TaskData
from workers.training.budget import Budget

Arm = Callable[[Job, TaskData, Budget], Choice]
"""Chooses within the job's cap by the images, in the budget's seconds."""

OURS: Final = "ours"
ELSEWHERE: Final = "constant_by_ours"
"""What `ours` chooses on another dataset: a constant cell, as far as CIFAR-10 is concerned."""


def count_params(job: Job, _data: TaskData, _budget: Budget) -> Choice:
    """Return all cells with the most parameters within the cap, without a look at the images."""
    cells = most_params(job.max_macs)
    return Choice(cells=tuple(digits_of(cell) for cell in cells), num_judged=0, note="most parameters, most MACs too")


# Without randomness: one run a cap.
COUNTING: Final[Mapping[str, Arm]] = {"most_params": count_params}
ARMS: Final[Mapping[str, Arm]] = {
    OURS: ours.choose,
    ELSEWHERE: ours.choose,
    "naswot": by_score(naswot, "NASWOT"),
    "synflow": by_score(synflow, "SynFlow"),
    "random_best_of_n": random_best.choose,
    **COUNTING,
}
