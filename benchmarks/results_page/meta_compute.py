"""The section of `bench-meta-compute`: what more meta-training is worth."""

from typing import Final

from benchmarks.results_page.markdown import number, paragraphs, points, shares, table, words
from benchmarks.results_page.plots import Curve, draw_curves
from benchmarks.results_page.reading import Interval, Results, Seen
from benchmarks.results_page.section import Benchmark, Finding, Reached, Told

BySteps = dict[int, Interval]
"""By number of inner steps."""


class Scores(Seen):
    """Of a prior, or of one less another."""

    accuracy: BySteps
    nll: BySteps


class Point(Scores):
    """A prior that learned for so many steps."""

    num_steps: int
    cpu_s: float | None
    minus_before: Scores | None


class Document(Seen):
    """A file of results."""

    prior: str
    complete: bool
    num_tasks: int
    curve: tuple[Point, ...]


def tell(results: Results) -> Told:
    """Return what the file says."""
    found = results.read(Document)
    inner = sorted({steps for point in found.curve for steps in point.accuracy})
    findings, plots = {}, {}
    name = results.name.removesuffix(".json")
    gains = [point.minus_before.accuracy[inner[-1]] for point in found.curve if point.minus_before is not None]
    if gains and found.complete:
        findings["worth"] = _worth(found.curve[-1].num_steps / found.curve[-2].num_steps, gains[-1])
        curves = [
            Curve(
                f"after {steps} inner steps",
                [(point.num_steps, 100 * point.accuracy[steps].mean, 0.0) for point in found.curve],
            )
            for steps in inner
        ]
        plots[name] = draw_curves({found.prior: curves}, "steps of meta-training", "accuracy, %")
    rows = [
        [
            str(point.num_steps),
            "" if point.cpu_s is None else f"{point.cpu_s:.0f}",
            *(shares(point.accuracy[steps]) for steps in inner),
            number(point.nll[inner[-1]], digits=2),
            "" if point.minus_before is None else points(point.minus_before.accuracy[inner[-1]]),
        ]
        for point in found.curve
    ]
    head = ["steps", "CPU seconds", *(f"accuracy after {steps}" for steps in inner), "NLL", "above the one before"]
    return Told(
        findings=findings,
        body=paragraphs(
            f"The recipe of `{found.prior}`, shortened, and at last that prior itself; {found.num_tasks} tasks of each "
            "domain's meta-validation classes, the same for all. At that prior's mode, by the number of inner steps; "
            "NLL and differences (points) after the last. 95 % intervals are bootstrapped over tasks, and do not cover "
            "another seed of the learning.",
            f"![Accuracy by steps of meta-training](images/results/{name}.svg)" if plots else "",
            table(head, rows),
        ),
        plots=plots,
        missing=() if found.complete else (f"only {words(str(point.num_steps) for point in found.curve)} steps",),
    )


def _worth(times: float, gain: Interval) -> Finding:
    """Return what the last lengthening brought."""
    still = "it still helped" if gain.low is not None and gain.low > 0 else "no help is shown any more"
    text = f"the last lengthening, {times:g} times the steps, brought {points(gain)} points: {still}"
    return Finding(text, Reached.SHOWN)


BENCHMARK: Final = Benchmark(
    name="meta_compute",
    title="Quality against meta-compute",
    about="Priors of one recipe that learned for a part of its steps, and to its end.",
    files="meta_compute_*.json",
    command="make bench-meta-compute",
    asked={"worth": "a curve of quality against meta-compute: would more help?"},
    tell=tell,
)
