"""The section of `bench-adapt`: what a minute buys on CIFAR-10."""

from typing import Final

from benchmarks.results_page.markdown import paragraphs, points, shares, table
from benchmarks.results_page.plots import draw_intervals
from benchmarks.results_page.reading import Interval, Results, Seen
from benchmarks.results_page.section import Benchmark, Finding, Told, beyond

SEEDS: Final = 5
RIVAL: Final = "no_prior"


class Run(Seen):
    """One adaptation."""

    architecture: str


class Document(Seen):
    """A file of results."""

    prior: str
    budget_s: float
    seeds: int
    accuracy: dict[str, Interval]
    adapt_minus: dict[str, Interval]
    largest_total_s: float
    runs: dict[str, tuple[Run, ...]]


def tell(results: Results) -> Told:
    """Return what the file says."""
    found = results.read(Document)
    findings = {}
    if RIVAL in found.adapt_minus:
        gap = found.adapt_minus[RIVAL]
        findings["prior"] = Finding(f"by {points(gap)} points, with `{found.prior}`", beyond(gap, 0.0))
    rows = [
        [
            f"`{arm}`",
            shares(accuracy),
            points(found.adapt_minus[arm]) if arm in found.adapt_minus else "",
            str(len({run.architecture for run in found.runs.get(arm, ())})),
        ]
        for arm, accuracy in found.accuracy.items()
    ]
    percents = {arm: accuracy.in_percent() for arm, accuracy in found.accuracy.items()}
    return Told(
        findings=findings,
        body=paragraphs(
            f"With `{found.prior}`; {found.budget_s:g} seconds from staging to manifest, the longest run "
            f"{found.largest_total_s:.0f} s; {found.seeds} seeds; 95 % t-intervals over seeds.",
            table(["arm", "test accuracy", "`adapt` is better by, points", "architectures"], rows),
            "![Test accuracy by arm](images/results/adapt.svg)",
        ),
        plots={"adapt": draw_intervals(percents, "test accuracy, %", marks=())},
        missing=() if found.seeds >= SEEDS else (f"{found.seeds} of {SEEDS} seeds",),
    )


BENCHMARK: Final = Benchmark(
    name="adapt",
    title="What a minute buys on CIFAR-10",
    about="A prior adapted (named below), against its mode, a random cell, no prior, and images at 32 pixels. "
    "Without a prior the space's published cell is trained (`no_prior`), or one is searched from random weights "
    "(`searched_from_scratch`).",
    files="adapt.json",
    command="make bench-adapt",
    asked={"prior": "a minute with the prior is better than without"},
    tell=tell,
)
