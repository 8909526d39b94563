"""The section of `bench-anytime`: how much longer a search from scratch takes."""

from collections.abc import Sequence
from typing import Final

from benchmarks.results_page.markdown import paragraphs
from benchmarks.results_page.plots import Curve, draw_curves
from benchmarks.results_page.reading import Results
from benchmarks.results_page.section import Benchmark, Finding, Reached, Told
from benchmarks.results_page.suites import Group, SuiteResults, abouts


def tell(results: Results) -> Told:
    """Return what the file says."""
    found = results.read(SuiteResults)
    suite = found.suite
    scratch = [name for name, arm in suite.arms.items() if arm.prior == "none"]
    panels: dict[str, list[Curve]] = {}
    crossings = {}
    for dataset in suite.datasets:
        own = sorted((one for one in found.groups if (one.dataset, one.arm) == (dataset, suite.reference)), key=_budget)
        others = sorted((one for one in found.groups if one.dataset == dataset and one.arm in scratch), key=_budget)
        if own and others:
            panels[dataset] = [Curve("from scratch", _points(others)), Curve(suite.reference, _points(own))]
            asked = [one for one in own if one.budget_s < others[-1].budget_s]
            crossings[dataset] = ", ".join(f"{one.budget_s:g} s {_crossing(one, others)}" for one in asked)
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
            "manifest. The search from scratch has the settings of an adaptation: it was not tuned on its own.",
            pictured,
            found.accuracy_table(),
            abouts(suite.arms, list(suite.arms)),
            found.seconds(),
        ),
        plots=plots,
        missing=found.missing(),
    )


def _points(groups: Sequence[Group]) -> list[tuple[float, float, float]]:
    return [(one.budget_s, 100 * one.accuracy.mean, 100 * (one.accuracy.standard_error or 0)) for one in groups]


def _budget(group: Group) -> float:
    return group.budget_s


def _crossing(own: Group, others: Sequence[Group]) -> str:
    """Return the first multiple of the seconds, of those tried, at which others are as good in the mean, if any."""
    for group in others:
        if group.budget_s >= own.budget_s and group.accuracy.mean >= own.accuracy.mean:
            return f"{group.budget_s / own.budget_s:.2g}x"
    return f"> {others[-1].budget_s / own.budget_s:.2g}x"


BENCHMARK: Final = Benchmark(
    name="anytime",
    title="Accuracy against search time",
    about="Adapted from the prior, against searches from scratch with up to 30 times the seconds, on digits with 100 "
    "times as many.",
    files="anytime.json",
    command="make bench-anytime",
    asked={"crossing": "how many times the seconds of an adaptation a search from scratch needs to be as good"},
    tell=tell,
)
