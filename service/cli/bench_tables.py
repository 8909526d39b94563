"""The results of a suite as tables for people."""

from collections.abc import Iterable, Iterator

from rich.table import Table

from service.cli.output import one_line, table
from workers.bench.records import RunRecord
from workers.bench.runs import seconds_text
from workers.bench.suite import Suite
from workers.bench.summary import Difference, Mean, Summary

NUM_FAILURES_SHOWN = 5


def tables(suite: Suite, summary: Summary) -> Iterator[Table]:
    """Yield accuracy by dataset and arm, then by how much the reference is better."""
    datasets = [name for name in suite.datasets if any(group.dataset == name for group in summary.groups)]
    numbers = frozenset(range(2, len(datasets) + 3))
    arms = list(dict.fromkeys((group.arm, group.budget_s) for group in summary.groups))
    cells = {(group.arm, group.budget_s, group.dataset): percent(group.accuracy) for group in summary.groups}
    accuracy = table("arm", "seconds", *datasets, numbers=numbers)
    accuracy.title = "test accuracy, % (mean ± standard error over seeds)"
    for arm, budget_s in arms:
        accuracy.add_row(arm, seconds_text(budget_s), *(cells.get((arm, budget_s, name), "") for name in datasets))
    yield accuracy
    compared = [one for one in summary.differences if one.measure == "accuracy"]
    gaps = {(one.arm, one.budget_s, one.dataset): points(one) for one in compared}
    difference = table("arm", "seconds", "reference", *datasets, "all", numbers=frozenset(range(3, len(datasets) + 4)))
    difference.title = "the reference is better by, points (95 % bootstrap interval over pairs)"
    for arm, budget_s in dict.fromkeys((one.arm, one.budget_s) for one in compared):
        against = suite.reference_of(arm)
        row = (gaps.get((arm, budget_s, name), "") for name in (*datasets, None))
        difference.add_row(arm, seconds_text(budget_s), against, *row)
    if difference.row_count:
        yield difference


def percent(mean: Mean) -> str:
    """Return a mean accuracy and its standard error in percent."""
    error = "" if mean.standard_error is None else f" ± {100 * mean.standard_error:.1f}"
    return f"{100 * mean.mean:.1f}{error}"


def points(difference: Difference) -> str:
    """Return a difference and its interval in percentage points."""
    mean, low, high = (100 * value for value in (difference.mean, difference.low, difference.high))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def failure_lines(failed: Iterable[RunRecord]) -> Iterator[str]:
    """Yield how many runs have failed, and why the first ones did."""
    listed = list(failed)
    for record in listed[:NUM_FAILURES_SHOWN]:
        reason = "" if record.failure is None else one_line(f"{record.failure.what} {record.failure.got}")
        yield f"failed: {record.dataset} {record.arm} seed {record.seed} {seconds_text(record.budget_s)} s: {reason}"
    yield f"failed runs: {len(listed)}; the same command with --retry runs them again"
