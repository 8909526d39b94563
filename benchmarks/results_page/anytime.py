"""The section of `bench-anytime`: how much longer a search from scratch takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from benchmarks.results_page.markdown import paragraphs
from benchmarks.results_page.plots import Curve, draw_curves
from benchmarks.results_page.reading import Results
from benchmarks.results_page.section import Benchmark, Finding, Reached, Told
from benchmarks.results_page.suites import Group, SuiteResults, abouts
from workers.adapt.plan import MAX_TRAIN_EPOCHS

# Of its seconds, that a run must have taken not to have ended early.
WHOLE: Final = 0.8


@dataclass(frozen=True)
class Stretch:
    """Runs of an arm on a dataset with one budget: what was granted and taken, in seconds, and what came out."""

    arm: str
    granted_s: float
    taken_s: float
    accuracy: float
    error: float

    @classmethod
    def of(cls, group: Group, found: SuiteResults) -> Self:
        """Return a group with the seconds that it took."""
        accuracy = group.accuracy
        error = accuracy.standard_error or 0.0
        return cls(group.arm, group.budget_s, found.taken_s(group), accuracy.mean, error)

    def __str__(self) -> str:
        return f"`{self.arm}` of {self.granted_s:g} s: {self.taken_s:.0f} s"

    @property
    def has_ended_early(self) -> bool:
        return self.taken_s < WHOLE * self.granted_s


def tell(results: Results) -> Told:
    """Return what the file says."""
    found = results.read(SuiteResults)
    suite = found.suite
    scratch = [name for name, arm in suite.arms.items() if arm.prior == "none"]
    panels: dict[str, list[Curve]] = {}
    crossings, early = {}, list[str]()
    for dataset in suite.datasets:
        own, others = (_stretches(found, dataset, arms) for arms in ([suite.reference], scratch))
        early += [f"{dataset}, {one}" for one in own + others if one.has_ended_early]
        if own and others:
            panels[dataset] = [Curve("from scratch", _points(others)), Curve(suite.reference, _points(own))]
            asked = [one for one in own if one.granted_s < others[-1].granted_s]
            crossings[dataset] = ", ".join(f"{one.granted_s:g} s {_crossing(one, others)}" for one in asked)
    findings, plots, pictured = {}, {}, ""
    if panels:
        text = "; ".join(f"{name}: {multiples}" for name, multiples in crossings.items())
        findings["crossing"] = Finding(text, Reached.SHOWN)
        plots["anytime"] = draw_curves(panels, "seconds of search", "test accuracy, %")
        pictured = "![Accuracy against seconds of search](images/results/anytime.svg)"
    return Told(
        findings=findings,
        body=paragraphs(
            f"Test accuracy in percent, mean ± standard error over {len(suite.seeds)} seeds; seconds from staging to "
            "manifest: granted in the table, taken in the picture and in what was found. The search from scratch has "
            "the settings of an adaptation: it was not tuned on its own.",
            f"Training ends after {MAX_TRAIN_EPOCHS} epochs at the latest, and of short budgets more was set aside "
            f"for the export than it took. Runs that ended early, medians: {'; '.join(early)}. Of the seconds granted "
            "and those taken, multiples are the lesser."
            if early
            else "",
            pictured,
            found.accuracy_table(),
            abouts(suite.arms, list(suite.arms)),
            found.seconds(),
        ),
        plots=plots,
        missing=found.missing(),
    )


def _stretches(found: SuiteResults, dataset: str, arms: Sequence[str]) -> list[Stretch]:
    own = [Stretch.of(group, found) for group in found.groups if group.dataset == dataset and group.arm in arms]
    return sorted(own, key=lambda one: one.granted_s)


def _points(stretches: Sequence[Stretch]) -> list[tuple[float, float, float]]:
    return sorted((one.taken_s, 100 * one.accuracy, 100 * one.error) for one in stretches)


def _crossing(own: Stretch, others: Sequence[Stretch]) -> str:
    """Return the first multiple of the seconds at which others are as good in the mean, if any."""
    for other in others:
        if other.granted_s >= own.granted_s and other.accuracy >= own.accuracy:
            return f"{_multiple(own, other):.2g}x"
    return f"> {_multiple(own, others[-1]):.2g}x"


def _multiple(own: Stretch, other: Stretch) -> float:
    return min(other.granted_s / own.granted_s, other.taken_s / own.taken_s)


BENCHMARK: Final = Benchmark(
    name="anytime",
    title="Accuracy against search time",
    about="Adapted from the prior, against searches from scratch that are granted up to 30 times the seconds, on "
    "digits 100 times as many.",
    files="anytime.json",
    command="make bench-anytime",
    asked={"crossing": "how many times the seconds of an adaptation a search from scratch needs to be as good"},
    tell=tell,
)
