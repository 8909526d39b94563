"""The section of `bench-anytime`: how much longer it takes from scratch, with a search and without."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from benchmarks.results_page.markdown import paragraphs
from benchmarks.results_page.plots import Curve, draw_curves
from benchmarks.results_page.reading import Results
from benchmarks.results_page.section import Benchmark, Finding, Reached, Told
from benchmarks.results_page.suites import Group, SuiteResults, abouts
from workers.adapt.plan import MAX_TRAIN_EPOCHS

# What is asked, of arms without a prior: the curve's label, and how they come to an architecture.
RIVALS: Final = (
    ("crossing", "searched from scratch", "supernet"),
    ("crossing_published", "published architecture from scratch", "adapt"),
)
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
    fresh = {name: arm.search for name, arm in suite.arms.items() if arm.prior == "none"}
    panels: dict[str, list[Curve]] = {}
    crossings: dict[str, list[str]] = {question: [] for question, _, _ in RIVALS}
    early = list[str]()
    for dataset in suite.datasets:
        own = _stretches(found, dataset, [suite.reference])
        early += [f"{dataset}, {one}" for one in own if one.has_ended_early]
        curves = [Curve(suite.reference, _points(own))]
        for question, label, search in RIVALS:
            others = _stretches(found, dataset, [name for name, way in fresh.items() if way == search])
            early += [f"{dataset}, {one}" for one in others if one.has_ended_early]
            if own and others:
                curves.append(Curve(label, _points(others)))
                asked = [one for one in own if one.granted_s < others[-1].granted_s]
                multiples = ", ".join(f"{one.granted_s:g} s {_crossing(one, others)}" for one in asked)
                crossings[question].append(f"{dataset}: {multiples}")
        if len(curves) > 1:
            panels[dataset] = curves[::-1]
    findings = {name: Finding("; ".join(texts), Reached.SHOWN) for name, texts in crossings.items() if texts}
    plots, pictured = {}, ""
    if panels:
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
    "digits 100 times as many, and against a published architecture that is trained from scratch: what an adaptation "
    "without a prior does.",
    files="anytime.json",
    command="make bench-anytime",
    asked={
        "crossing": "how many times the seconds of an adaptation a search from scratch needs to be as good",
        "crossing_published": "how many times those seconds a published architecture needs, trained from scratch",
    },
    tell=tell,
)
