"""What the sections of suites (`archprior bench`) share: the shape of their files, and what a partial one lacks."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from benchmarks.results_page.markdown import points, table
from benchmarks.results_page.reading import Interval, Seen

ACCURACY = "accuracy"


class Mean(Seen):
    """A mean over seeds and its standard error."""

    mean: float
    standard_error: float | None


class Group(Seen):
    """The runs of an arm with one budget on one dataset."""

    dataset: str
    arm: str
    budget_s: float
    num_seeds: int
    accuracy: Mean
    num_architectures: int


class Difference(Seen):
    """What the reference has more of than an arm; `dataset` None: on all."""

    measure: str
    dataset: str | None
    arm: str
    budget_s: float
    reference: str
    num_pairs: int
    mean: float
    low: float
    high: float

    @property
    def interval(self) -> Interval:
        return Interval(mean=self.mean, low=self.low, high=self.high)


class ArchitectureOf(Seen):
    """Whose result an arm trains; `dataset` None: of the same one."""

    architecture_of: str
    dataset: str | None = None


class Arm(Seen):
    """A way to a network."""

    about: str = ""
    prior: str | None = None
    search: str = "adapt"
    architecture: str | ArchitectureOf | None = None
    reference: str | None = None
    budgets_s: tuple[float, ...] | None = None
    datasets: tuple[str, ...] | None = None


class Suite(Seen):
    """What was to be compared."""

    reference: str
    seeds: tuple[int, ...]
    budgets_s: tuple[float, ...]
    datasets: dict[str, object]
    arms: dict[str, Arm]

    def num_runs(self, arm: str) -> int:
        """Return how many runs an arm has."""
        own = self.arms[arm]
        return len(own.datasets or self.datasets) * len(own.budgets_s or self.budgets_s) * len(self.seeds)


class Outcome(Seen):
    """What a run ended with."""

    accuracy: float
    architecture: str
    cpu_s: float
    timings_s: dict[str, float]

    @property
    def taken_s(self) -> float:
        """Seconds from staging to manifest."""
        return self.timings_s["total"]


class Run(Seen):
    """A run; without an outcome it has failed; `same_as` names the run whose outcome it has, if not its own."""

    dataset: str
    arm: str
    seed: int
    budget_s: float
    same_as: str | None = None
    outcome: Outcome | None = None


class SuiteResults(Seen):
    """A file of results of a suite."""

    num_failed: int
    suite: Suite
    groups: tuple[Group, ...]
    differences: tuple[Difference, ...]
    runs: tuple[Run, ...]

    def compared(self, reference: str) -> list[Difference]:
        """Return the differences in accuracy from a reference over all datasets."""
        there = [one for one in self.differences if one.measure == ACCURACY and one.dataset is None]
        return [one for one in there if one.reference == reference]

    def missing(self) -> tuple[str, ...]:
        """Return which arms lack runs, and whether some have failed."""
        there = {arm: sum(group.num_seeds for group in self.groups if group.arm == arm) for arm in self.suite.arms}
        lacking = [
            f"`{arm}` has {found} of {self.suite.num_runs(arm)} runs"
            for arm, found in there.items()
            if found < self.suite.num_runs(arm)
        ]
        return (*lacking, *([f"{self.num_failed} runs have failed"] if self.num_failed else []))

    def accuracy_table(self) -> str:
        """Return accuracy by arm, budget and dataset, and by how much the reference is better on all."""
        datasets = [name for name in self.suite.datasets if any(group.dataset == name for group in self.groups)]
        cells = {(group.arm, group.budget_s, group.dataset): group.accuracy for group in self.groups}
        gaps = {
            (one.arm, one.budget_s): f"{one.reference}: {points(one.interval)}"
            for one in self.differences
            if one.measure == ACCURACY and one.dataset is None
        }
        rows = [
            [
                f"`{arm}`",
                f"{budget_s:g}",
                *(with_error(cells.get((arm, budget_s, name))) for name in datasets),
                gaps.get((arm, budget_s), ""),
            ]
            for arm, budget_s in dict.fromkeys((group.arm, group.budget_s) for group in self.groups)
        ]
        return table(["arm", "s", *datasets, "its reference is better by (points)"], rows)

    def taken_s(self, group: Group) -> float:
        """Return the median seconds from staging to manifest of a group's runs, which may end early."""
        asked = (group.dataset, group.arm, group.budget_s)
        return median(
            run.outcome.taken_s
            for run in self.runs
            if run.outcome is not None and (run.dataset, run.arm, run.budget_s) == asked
        )

    def seconds(self) -> str:
        """Return what the budgets were worth in CPU seconds: a busy machine shows there."""
        own = [run for run in self.runs if run.same_as is None]
        used = [(run.budget_s, run.outcome.cpu_s) for run in own if run.outcome is not None]
        parts = []
        for budget_s in sorted({budget for budget, _ in used}):
            taken = [cpu_s for budget, cpu_s in used if budget == budget_s]
            parts.append(f"of {budget_s:g} s {median(taken):.0f} ({min(taken):.0f} to {max(taken):.0f})")
        shared = len(self.runs) - len(own)
        alike = f" {shared} of the {len(self.runs)} runs have the outcome of one that was asked for the same."
        worth = f"CPU seconds of a run, median and range: {'; '.join(parts)}." if parts else ""
        return f"{worth}{alike if shared else ''}"


def with_error(accuracy: Mean | None) -> str:
    """Return a mean accuracy and its standard error, in percent."""
    if accuracy is None:
        return ""
    error = accuracy.standard_error
    return f"{100 * accuracy.mean:.1f}{'' if error is None else f' ± {100 * error:.1f}'}"


def abouts(arms: Mapping[str, Arm], chosen: Sequence[str]) -> str:
    """Return what some arms are, as a list."""
    return "\n".join(_lines(arms, chosen))


def _lines(arms: Mapping[str, Arm], chosen: Sequence[str]) -> Iterator[str]:
    for name in chosen:
        if arms[name].about:
            yield f"- `{name}`: {arms[name].about}"
