"""The section of `bench-tasks`: ways to a network, and whether an architecture that is adapted for A is for A."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from scipy import stats

from benchmarks.results_page.markdown import paragraphs, points, table, words
from benchmarks.results_page.plots import draw_intervals
from benchmarks.results_page.reading import Interval, Results
from benchmarks.results_page.section import Benchmark, Finding, Reached, Told, beyond
from benchmarks.results_page.suites import ArchitectureOf, Difference, Outcome, Suite, SuiteResults, abouts
from workers.bench.bootstrap import bootstrap

MARGIN: Final = 0.005
LEVEL: Final = 0.05
# That the test asks for.
LEAST_APART: Final = 3
Runs = Mapping[tuple[str, str, int], Outcome]
"""By dataset, arm and seed."""


@dataclass(frozen=True)
class Pair:
    """On one dataset and seed: accuracy with the architecture adapted for it, less that with one for another."""

    dataset: str
    seed: int
    difference: float
    same: bool


def tell(results: Results) -> Told:
    """Return what the file says."""
    found = results.read(SuiteResults)
    suite = found.suite
    budget_s = min(suite.budgets_s)
    runs = {
        (run.dataset, run.arm, run.seed): run.outcome
        for run in found.runs
        if run.outcome is not None and run.budget_s == budget_s
    }
    rivals = found.compared(suite.reference)
    foreign = _foreign(suite)
    findings: dict[str, Finding] = {}
    plots: dict[str, str] = {}
    pictured = ""
    own_cell = _own_cell(suite, runs, [one.arm for one in rivals])
    if rivals:
        findings["as_good"] = _as_good(rivals, [arm for arm, (same, there) in own_cell.items() if same == there])
        rows = {one.arm: one.interval.in_percent() for one in rivals}
        label = f"points by which {suite.reference} is better"
        plots["tasks"] = draw_intervals(rows, label, (0.0, -100 * MARGIN))
        pictured = "![By how much adapted is better, in points, with 95 % intervals](images/results/tasks.svg)"
    simple = [one for one in rivals if suite.arms[one.arm].search in ("random", "prior_mode")]
    if simple:
        findings["better"] = _better(simple)
    pairs = _pairs(suite, runs, foreign)
    if pairs:
        findings["diagonal"] = _diagonal(pairs, found, foreign)
    differing = _differing(suite, runs)
    if differing:
        findings["differ"] = _differ(differing)
    listed = [arm for arm in suite.arms if arm not in foreign]
    return Told(
        findings=findings,
        body=paragraphs(
            f"Test accuracy in percent, mean ± standard error over {len(suite.seeds)} seeds. Differences are paired by "
            "dataset and seed; their 95 % intervals are bootstrapped over these pairs.",
            found.accuracy_table(),
            abouts(suite.arms, listed),
            f"Runs that trained the very architecture of `{suite.reference}`: "
            + words(f"`{arm}` {same} of {there}" for arm, (same, there) in own_cell.items())
            + ". What differs there is the weights that training begins with, or nothing but the clock's noise."
            if own_cell
            else "",
            pictured,
            _matrix(found, foreign),
            found.seconds(),
        ),
        plots=plots,
        missing=found.missing(),
    )


def _own_cell(suite: Suite, runs: Runs, arms: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return by arm how many of its runs have the architecture of the reference's run, and how many it has."""
    found = {}
    for arm in arms:
        pairs = [
            (outcome.architecture, runs[dataset, suite.reference, seed].architecture)
            for (dataset, name, seed), outcome in runs.items()
            if name == arm and (dataset, suite.reference, seed) in runs
        ]
        if pairs:
            found[arm] = (sum(own == other for own, other in pairs), len(pairs))
    return found


def _as_good(rivals: Sequence[Difference], same_cell: Sequence[str]) -> Finding:
    in_mean = sum(one.mean >= -MARGIN for one in rivals)
    whole = sum(one.low >= -MARGIN for one in rivals)
    worst = min(rivals, key=lambda one: one.mean)
    text = (
        f"in the mean against {in_mean} of {len(rivals)} arms, with the whole interval against {whole}; the closest is "
        f"`{worst.arm}`: {points(worst.interval)} points"
    )
    if same_cell:
        text += f"; always the same architecture: {words(f'`{arm}`' for arm in same_cell)}"
    reached = Reached.YES if whole == len(rivals) else Reached.MEAN_ONLY if in_mean == len(rivals) else Reached.NO
    return Finding(text, reached)


def _better(simple: Sequence[Difference]) -> Finding:
    text = words(f"than `{one.arm}` by {points(one.interval)} points" for one in simple)
    return Finding(text, Reached.YES if all(one.mean > 0 for one in simple) else Reached.NO)


def _foreign(suite: Suite) -> dict[str, str]:
    """Return the arms that train what was found on another dataset, and that dataset."""
    return {
        name: arm.architecture.dataset
        for name, arm in suite.arms.items()
        if isinstance(arm.architecture, ArchitectureOf) and arm.architecture.dataset is not None
    }


def _diagonal_of(suite: Suite, arm: str) -> str:
    return suite.arms[arm].reference or suite.reference


def _pairs(suite: Suite, runs: Runs, foreign: Mapping[str, str]) -> list[Pair]:
    pairs = []
    for arm in foreign:
        for dataset in suite.datasets:
            for seed in suite.seeds:
                own, other = (runs.get((dataset, name, seed)) for name in (_diagonal_of(suite, arm), arm))
                if own is not None and other is not None:
                    gap, same = own.accuracy - other.accuracy, own.architecture == other.architecture
                    pairs.append(Pair(dataset, seed, gap, same))
    return pairs


def _diagonal(pairs: Sequence[Pair], found: SuiteResults, foreign: Mapping[str, str]) -> Finding:
    # Architectures for other datasets may all be one: what they have in common, a seed on a dataset, is drawn together.
    by_own: dict[tuple[str, int], list[float]] = {}
    for pair in pairs:
        by_own.setdefault((pair.dataset, pair.seed), []).append(pair.difference)
    gap = Interval(**bootstrap([fmean(differences) for differences in by_own.values()]))
    means = {(group.arm, group.dataset): group.accuracy.mean for group in found.groups}
    columns = {}
    for dataset in found.suite.datasets:
        others = [means[arm, dataset] for arm in foreign if (arm, dataset) in means]
        own = [means[key] for key in {(_diagonal_of(found.suite, arm), dataset) for arm in foreign} if key in means]
        if own and others:
            columns[dataset] = own[0] > max(others)
    text = (
        f"it is better by {points(gap)} points over {len(by_own)} datasets and seeds; in "
        f"{sum(pair.same for pair in pairs)} of {len(pairs)} pairs with another's both are the same; it is "
        f"the best of its column on {sum(columns.values())} of {len(columns)} datasets"
    )
    return Finding(text, beyond(gap, 0.0))


def _matrix(found: SuiteResults, foreign: Mapping[str, str]) -> str:
    """Return accuracy by the dataset that an architecture was adapted for and the one that it was trained on."""
    suite = found.suite
    if not foreign:
        return ""
    means = {(group.arm, group.dataset): group.accuracy.mean for group in found.groups}
    rows = []
    for arm, home in foreign.items():
        cells = []
        for dataset in suite.datasets:
            value = means.get((_diagonal_of(suite, arm) if dataset == home else arm, dataset))
            text = "" if value is None else f"{100 * value:.1f}"
            cells.append(f"**{text}**" if text and dataset == home else text)
        rows.append([home, *cells])
    return paragraphs(
        "Architecture adapted for the row, trained from random weights on the column:",
        table(["adapted for", *(f"on {name}" for name in suite.datasets)], rows),
    )


def _differing(suite: Suite, runs: Runs) -> dict[str, bool]:
    """Return by dataset whether architectures differ that begin with random weights: a Friedman test over seeds.

    Arms that trained the same architecture in every seed count once; where fewer than three are left, none is shown to
    differ.
    """
    fresh = [name for name, arm in suite.arms.items() if arm.prior == "none" and arm.search == "given"]
    found = {}
    for dataset in suite.datasets:
        arms = [arm for arm in fresh if any((dataset, arm, seed) in runs for seed in suite.seeds)]
        seeds = [seed for seed in suite.seeds if all((dataset, arm, seed) in runs for arm in arms)]
        if len(arms) > 2 and len(seeds) > 1:
            columns = {arm: [runs[dataset, arm, seed] for seed in seeds] for arm in arms}
            apart = {tuple(one.architecture for one in column): column for column in columns.values()}
            accuracies = [[one.accuracy for one in column] for column in apart.values()]
            found[dataset] = False
            if len(accuracies) < LEAST_APART:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # all equal: p is not a number, so none differ
                found[dataset] = bool(stats.friedmanchisquare(*accuracies).pvalue < LEVEL)
    return found


def _differ(differing: Mapping[str, bool]) -> Finding:
    yes, no = ([name for name, differs in differing.items() if differs is wanted] for wanted in (True, False))
    return Finding(f"they do on {words(yes)}; not on {words(no)} (Friedman test, p < {LEVEL})", Reached.SHOWN)


BENCHMARK: Final = Benchmark(
    name="tasks",
    title="Architectures and weights on six datasets",
    about="Ways to a network at equal seconds: architecture {adapted, the prior's mode, from scratch, random, a fixed "
    "one} x weights {random, inherited, of a prior for the fixed cell only}.",
    files="tasks.json",
    command="make bench-tasks",
    asked={
        "as_good": "adapted + inherited is at least as good as every other way (margin 0.5 points)",
        "better": "adapted + inherited is better than random and the prior's mode, in the mean",
        "diagonal": "an architecture adapted for A, trained from random weights, is best on A",
        "differ": "said where architectures do not differ",
    },
    tell=tell,
)
