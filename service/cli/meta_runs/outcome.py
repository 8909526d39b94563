"""What came of a meta-run: told to people."""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist, fmean, stdev
from typing import Final

from rich.console import Console
from rich.table import Table

from service.cli.meta_runs.board import losses
from service.cli.outcome import bad_end
from service.cli.output import table
from service.client import ServiceError
from service.schemas import MetaRunView
from workers.contracts.meta_runs import PriorScore

Z_95: Final = NormalDist().inv_cdf(0.975)


def problem_of_end(view: MetaRunView) -> ServiceError | None:
    """Return why a meta-run has not ended well, or None where it has, or goes on."""
    return bad_end("meta-run", view) if view.state in ("FAILED", "CANCELLED") else None


def tell(console: Console, view: MetaRunView, server: str) -> None:
    """Print the result of a meta-run that has one: the scores; of a run that learned, what was lost and what to do."""
    result = view.result
    if result is None:
        return
    if view.request.kind == "compare":
        console.print(f"meta-run {view.id}: {view.state}", style="bold", markup=False)
        _tell_scores(console, result.scores)
        return
    whole = "" if result.complete else ", not all: it was stopped or out of budget"
    taken = f"{result.step:,} of {view.request.config.num_steps:,} steps{whole}"
    console.print(f"meta-run {view.id}: {view.state}, {taken}", style="bold", markup=False, soft_wrap=True)
    _tell_scores(console, result.scores)
    console.print(f"dropped: {losses(result.counters)}; waited for data: {result.data_wait:.1%}", soft_wrap=True)
    for change in result.adjustments:
        console.print(f"changed at step {change.step}: {change.what} {change.value}: {change.why}", markup=False)
    if result.prior_id is not None:
        promote = f"archprior priors promote {result.prior_id} --server {server}"
        console.print(f"\nprior {result.prior_id}: `{promote}`", markup=False, soft_wrap=True)
        console.print("makes it what an adaptation gets that names no prior.")


def score_table(scores: Sequence[PriorScore]) -> Table:
    """Return a table of mean accuracies on held-out tasks, with 95 % intervals, by prior and number of inner steps."""
    lengths = sorted({length for score in scores for length in score.accuracy})
    headings = [f"after {length} steps" for length in lengths]
    listed = table("prior", "tasks", *headings, numbers=frozenset(range(1, len(headings) + 2)))
    for score in scores:
        cells = [
            f"{score.accuracy[length]:.1%} ± {score.interval[length]:.1%}" if length in score.accuracy else ""
            for length in lengths
        ]
        listed.add_row(score.prior_id, str(max(map(len, score.tasks.values()), default=0)), *cells)
    return listed


def gaps(scores: Sequence[PriorScore]) -> tuple[str, ...]:
    """Return by how much the first prior is ahead of each other one after the most inner steps, task by task.

    With mean d and standard deviation s of the n differences between accuracies on the same task: d ± 1.96 s / sqrt(n).
    Nothing is said of fewer than two tasks.
    """
    told = []
    for other in scores[1:]:
        first = scores[0]
        length = max(first.tasks)
        found = [mine - its for mine, its in zip(first.tasks[length], other.tasks[length], strict=True)]
        if len(found) > 1:
            half = Z_95 * stdev(found) / sqrt(len(found))
            told.append(
                f"{first.prior_id} against {other.prior_id} on the same tasks, after {length} steps: "
                f"{100 * fmean(found):+.1f} ± {100 * half:.1f} points"
            )
    return tuple(told)


def _tell_scores(console: Console, scores: Sequence[PriorScore]) -> None:
    if scores:
        console.print(score_table(scores))
    for gap in gaps(scores):
        console.print(gap, markup=False, soft_wrap=True)
