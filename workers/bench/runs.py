"""The runs of a suite in the order in which they begin: each after the one that finds its architecture. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.errors import InvalidOptionError, lookup
from workers.bench.suite import ArchitectureOf, Suite


@dataclass(frozen=True, kw_only=True)
class Run:
    """One adaptation of a suite."""

    dataset: str
    arm: str
    seed: int
    budget_s: float

    @property
    def key(self) -> str:
        """The name of its file and of its attempt."""
        return f"{self.dataset}.{self.arm}.s{self.seed}.b{seconds_text(self.budget_s)}"

    def __str__(self) -> str:
        return f"{self.dataset} {self.arm} seed {self.seed} {seconds_text(self.budget_s)} s"


def seconds_text(budget_s: float) -> str:
    """Return a budget in digits; different ones of different budgets."""
    return str(budget_s).removesuffix(".0")


def source_of(suite: Suite, run: Run) -> Run | None:
    """Return the run that finds the architecture of another, or None where nothing is waited for."""
    source = suite.arms[run.arm].architecture
    if not isinstance(source, ArchitectureOf):
        return None
    budget_s = suite.like_budget(source.architecture_of, run.budget_s)
    if budget_s is None:
        raise InvalidOptionError("a run without its source", got=run.key)  # a suite that was checked has none
    return Run(dataset=source.dataset or run.dataset, arm=source.architecture_of, seed=run.seed, budget_s=budget_s)


def chosen_runs(
    suite: Suite, *, datasets: Sequence[str] = (), arms: Sequence[str] = (), seeds: Sequence[int] = ()
) -> list[Run]:
    """Return the runs that are wanted, and those whose results they wait for, each after its source.

    Seeds come one after the other, so that what is there after half of the time compares all arms by half of the seeds.

    Args:
        suite: Of the runs.
        datasets: That are wanted; none: all.
        arms: That are wanted; none: all.
        seeds: That are wanted; none: all.

    Raises:
        UnknownNameError: The suite has no such dataset, arm or seed.
        InvalidOptionError: No wanted arm runs on a wanted dataset.
    """
    for name in datasets:
        lookup(suite.datasets, name, kind="dataset of the suite")
    for name in arms:
        lookup(suite.arms, name, kind="arm of the suite")
    for seed in seeds:
        lookup({str(one): one for one in suite.seeds}, str(seed), kind="seed of the suite")
    chosen: dict[Run, None] = {}
    for seed in seeds or suite.seeds:
        for dataset in datasets or suite.datasets:
            for arm in arms or suite.arms:
                if dataset in suite.datasets_of(arm):
                    for budget_s in suite.budgets_of(arm):
                        run = Run(dataset=dataset, arm=arm, seed=seed, budget_s=budget_s)
                        chosen.update(dict.fromkeys(_with_sources(suite, run)))
    if not chosen:
        raise InvalidOptionError(
            "no run is wanted: none of these arms runs on any of these datasets",
            got=f"arms {', '.join(arms or suite.arms)}; datasets {', '.join(datasets or suite.datasets)}",
            todo="Name an arm and a dataset that it runs on.",
        )
    return list(chosen)


def _with_sources(suite: Suite, run: Run) -> list[Run]:
    """Return a run after all that it waits for."""
    found = [run]
    while (source := source_of(suite, found[0])) is not None:
        found.insert(0, source)
    return found
