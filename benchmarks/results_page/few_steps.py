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
    rates: tuple[float, ...]
    side: int
    curves: dict[str, dict[str, Curves]]


def tell(results: Results) -> Told:
    """Return what the file says."""
    found = results.read(Document)
    name = results.name.removesuffix(".json")
    findings, plots = {}, {}
    told = {dataset: _crossing(arms["prior"], arms["fresh"]) for dataset, arms in found.curves.items()}
    told = {dataset: text for dataset, text in told.items() if text}
    if told:
        findings["ten"] = Finding(words(f"{dataset}: {text}" for dataset, text in told.items()), Reached.SHOWN)
    ends = (min(found.rates), max(found.rates))
    rows = [
        [
            dataset,
            NAMES[arm],
            f"{curve.rate:g}{' (an end of the range)' if curve.rate in ends else ''}",
            *(shares(interval) for interval in curve.accuracy.values()),
        ]
        for dataset, arms in found.curves.items()
        for arm, curve in arms.items()
    ]
    if found.curves:
        # No logarithm of nothing: before the first step is left of it.
        panels = {
            dataset: [
                Curve(
                    NAMES[arm],
                    [(max(steps, 0.5), 100 * at.mean, 100 * _half(at)) for steps, at in curve.accuracy.items()],
                )
                for arm, curve in arms.items()
            ]
            for dataset, arms in found.curves.items()
        }
        plots[name] = draw_curves(panels, "steps (0.5: none yet)", "accuracy, %")
    steps = sorted({at for arms in found.curves.values() for curve in arms.values() for at in curve.accuracy})
    return Told(
        findings=findings,
        body=paragraphs(
            f"Plain SGD on {found.num_tasks} splits of each dataset, all its classes, at {found.side} pixels, after a "
            f"fitted head, at the mode of `{found.prior}`. Each arm has the best of {len(found.rates)} rates of the "
            "weights, by another split; the head's is the same for all. 95 % intervals are bootstrapped over splits.",
            f"![Accuracy by steps](images/results/{name}.svg)" if plots else "",
            table(["dataset", "weights", "rate", *(f"after {at}" for at in steps)], rows),
        ),
        plots=plots,
        missing=() if found.complete else (f"only {words(found.curves)} are judged",),
    )


def _half(interval: Interval) -> float:
    """Return half of an interval's width; 0 where one value gave none."""
    if interval.low is None or interval.high is None:
        return 0.0
    return (interval.high - interval.low) / 2


def _crossing(own: Curves, other: Curves) -> str:
    """Return what ten steps reach, and how many fresh weights take to get there."""
    if TEN not in own.accuracy:
        return ""
    reached = own.accuracy[TEN].mean
    later = [steps for steps, at in other.accuracy.items() if at.mean >= reached]
    took = f"at most {min(later)}" if later else f"more than {max(other.accuracy)}"
    return f"{100 * reached:.1f} % after 10, for which fresh weights take {took}"


BENCHMARK: Final = Benchmark(
    name="few_steps",
    title="The first steps on a new dataset",
    about="Accuracy after so many steps of adaptation, from a prior's weights and from fresh ones.",
    files="few_steps_*.json",
    command="make bench-few-steps",
    asked={"ten": "the 10-step curve"},
    tell=tell,
)
