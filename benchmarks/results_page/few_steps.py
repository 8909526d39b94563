"""The section of `bench-few-steps`: the first steps on a new dataset."""

from typing import Final

from benchmarks.results_page.markdown import paragraphs, shares, table, words
from benchmarks.results_page.plots import Curve, draw_curves
from benchmarks.results_page.reading import Interval, Results, Seen
from benchmarks.results_page.section import Benchmark, Finding, Reached, Told

NAMES: Final = {"prior": "from the prior", "fresh": "from fresh weights"}
TEN: Final = 10


class Curves(Seen):
    """Accuracy by number of steps, at the rate that was chosen."""

    rate: float
    accuracy: dict[int, Interval]


class Document(Seen):
    """A file of results."""

    prior: str
    complete: bool
    num_tasks: int
    side: int
    curves: dict[str, dict[str, Curves]]


def tell(results: Results) -> Told:
    """Return what the file says."""
    found = results.read(Document)
    findings, plots = {}, {}
    told = {name: _crossing(arms["prior"], arms["fresh"]) for name, arms in found.curves.items()}
    told = {name: text for name, text in told.items() if text}
    if told:
        findings["ten"] = Finding(words(f"{name}: {text}" for name, text in told.items()), Reached.SHOWN)
    rows = [
        [name, NAMES[arm], f"{curve.rate:g}", *(shares(interval) for interval in curve.accuracy.values())]
        for name, arms in found.curves.items()
        for arm, curve in arms.items()
    ]
    if found.curves:
        # No logarithm of nothing: before the first step is left of it.
        panels = {
            name: [
                Curve(
                    NAMES[arm],
                    [(max(steps, 0.5), 100 * at.mean, 0.0) for steps, at in curve.accuracy.items()],
                )
                for arm, curve in arms.items()
            ]
            for name, arms in found.curves.items()
        }
        plots["few_steps"] = draw_curves(panels, "steps (0.5: none yet)", "accuracy, %")
    steps = sorted({at for arms in found.curves.values() for curve in arms.values() for at in curve.accuracy})
    return Told(
        findings=findings,
        body=paragraphs(
            f"Steps of plain SGD on {found.num_tasks} tasks of all classes of each dataset, at {found.side} pixels, "
            f"after a fitted head, at the mode of `{found.prior}`; each arm with the best of the same rates, chosen on "
            "a task that is not judged. 95 % intervals are bootstrapped over tasks.",
            "![Accuracy by steps](images/results/few_steps.svg)" if plots else "",
            table(["dataset", "weights", "rate", *(f"after {at}" for at in steps)], rows),
        ),
        plots=plots,
        missing=() if found.complete else (f"only {words(found.curves)} are judged",),
    )


def _crossing(own: Curves, other: Curves) -> str:
    """Return what ten steps reach, and how many fresh weights take to get there."""
    if TEN not in own.accuracy:
        return ""
    reached = own.accuracy[TEN].mean
    later = [steps for steps, at in other.accuracy.items() if at.mean >= reached]
    took = f"{min(later)}" if later else f"> {max(other.accuracy)}"
    return f"{100 * reached:.1f} % after 10, fresh weights take {took}"


BENCHMARK: Final = Benchmark(
    name="few_steps",
    title="The first steps on a new dataset",
    about="Accuracy after so many steps of adaptation, from a prior's weights and from fresh ones.",
    files="few_steps.json",
    command="make bench-few-steps",
    asked={"ten": "the 10-step curve"},
    tell=tell,
)
