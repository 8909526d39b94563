"""The section of `bench-trials`: what each part of what trials teach is worth."""

from typing import Final

from benchmarks.results_page.markdown import number, paragraphs, percent, points, table, words
from benchmarks.results_page.plots import draw_intervals
from benchmarks.results_page.reading import Interval, Results, Seen
from benchmarks.results_page.section import Benchmark, Finding, Reached, Told

WHOLE: Final = "whole"
LEAST: Final = 10  # tasks, for a mean that says anything


class Differences(Seen):
    """Of a way, to the whole model."""

    accuracy: Interval
    nll: Interval
    tau: Interval


class Way(Seen):
    """Means over tasks of what a way chooses, and how well it ranks."""

    accuracy: float
    nll: float
    tau: float
    minus_whole: Differences


class Document(Seen):
    """A file of results."""

    prior: str
    tasks: int
    trials: int
    weights: str
    ways: dict[str, Way]


def tell(results: Results) -> Told:
    """Return what the file says."""
    found = results.read(Document)
    name = results.name.removesuffix(".json")
    lesser = {way: one for way, one in found.ways.items() if way != WHOLE}
    worse = [way for way, one in lesser.items() if (one.minus_whole.accuracy.high or 0.0) < 0]
    text = f"`{found.prior}`: what the whole model chooses reaches {percent(found.ways[WHOLE].accuracy)}, tau "
    text += f"{found.ways[WHOLE].tau:.2f}; less accurate for sure: {words(worse) or 'none'}"
    rows = [
        [
            way,
            percent(one.accuracy),
            "" if way == WHOLE else points(one.minus_whole.accuracy),
            f"{one.nll:.3f}",
            "" if way == WHOLE else number(one.minus_whole.nll, digits=3),
            f"{one.tau:.2f}",
            "" if way == WHOLE else number(one.minus_whole.tau, digits=2),
        ]
        for way, one in found.ways.items()
    ]
    gaps = {way: one.minus_whole.accuracy.in_percent() for way, one in lesser.items()}
    return Told(
        findings={"reading": Finding(text, Reached.SHOWN)},
        body=paragraphs(
            f"Prior `{found.prior}`, {found.trials} trials with {found.weights} weights on {found.tasks} tasks. Each "
            "task is foretold from the others, and of those tried on it the one that is foretold to be best "
            "is taken. NLL in units of the logarithm of the number of classes. Differences to the whole model are "
            "paired, 95 % intervals are bootstrapped over tasks.",
            table(
                ["model", "accuracy", "less the whole, points", "NLL", "less the whole", "tau", "less the whole"], rows
            ),
            f"![Accuracy less that of the whole model](images/results/{name}.svg)",
        ),
        plots={name: draw_intervals(gaps, "points of accuracy less the whole model's")},
        missing=() if found.tasks >= LEAST else (f"{found.tasks} tasks only",),
    )


BENCHMARK: Final = Benchmark(
    name="trials",
    title="What each part of what trials teach is worth",
    about="A prior's own trials, each task foretold from all others, by the whole model and without one of its parts.",
    files="trials_*.json",
    command="make bench-trials",
    asked={"reading": "reading the dataset, and the other parts of the model, ablated"},
    tell=tell,
)
