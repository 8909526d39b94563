"""A meta-run's report, for people. Every number comes from `metrics.json`."""

import io
from collections.abc import Sequence
from typing import Final

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from workers.contracts.meta_runs import MetaMetrics, PriorScore
from workers.contracts.priors import PriorCard

FAULTS: Final = {
    "not_finite": "gradients that were not finite",
    "stale": "gradients that were too old",
    "duplicate": "slots that two workers computed",
    "backups": "slow slots given to a second worker",
    "lost_workers": "workers lost",
    "recomputed_steps": "steps taken again",
}


def write_report(metrics: MetaMetrics, card: PriorCard | None) -> str:
    """Return the report as Markdown."""
    parts = [
        _title(metrics),
        _scores(metrics.scores),
        _learning(metrics, card),
        _trials(metrics),
        _data(metrics),
        _faults(metrics),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def draw_scores(scores: Sequence[PriorScore]) -> str:
    """Return the adaptation curves of priors on the same held-out tasks, with 95 % intervals, as an SVG document."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for score in scores:
        steps = sorted(score.accuracy)
        axes.errorbar(
            steps,
            [score.accuracy[step] for step in steps],
            yerr=[score.interval[step] for step in steps],
            label=score.prior_id,
            marker="o",
            capsize=3,
        )
    axes.set_xlabel("inner steps", fontsize=9)
    axes.set_ylabel("accuracy on held-out tasks", fontsize=9)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()


def _title(metrics: MetaMetrics) -> str:
    if metrics.request.kind == "compare":
        return f"# Comparison of {len(metrics.scores)} priors ({metrics.meta_run_id})"
    if metrics.prior_id is None:
        return f"# No prior\n\nMeta-run {metrics.meta_run_id} ended before its first step."
    ended = "all steps taken" if metrics.complete else "ended early"
    return f"# Prior {metrics.prior_id}\n\nMeta-run {metrics.meta_run_id}: {metrics.num_steps} steps, {ended}."


def _scores(scores: Sequence[PriorScore]) -> str:
    if not scores:
        return "It was not judged on held-out classes, so nothing is known of how well it adapts."
    steps = sorted(scores[0].accuracy)
    lines = [
        f"## On {len(scores[0].tasks[steps[0]])} held-out tasks",
        "",
        "Mean accuracy after so many inner steps, with 95 % intervals over tasks; the same tasks for every prior.",
        "",
        "| prior | " + " | ".join(f"{step} steps" for step in steps) + " |",
        "|---" * (len(steps) + 1) + "|",
    ]
    for score in scores:
        cells = [f"{score.accuracy[step]:.1%} ± {100 * score.interval[step]:.1f}" for step in steps]
        lines.append(f"| {score.prior_id} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "![Adaptation curves](scores.svg)"])


def _learning(metrics: MetaMetrics, card: PriorCard | None) -> str:
    if card is None:
        return ""
    lines = [
        "## Learning",
        "",
        f"Most likely architecture: `{card.mode}`",
        "",
        f"Share of the workers' time spent waiting for data: {metrics.data_wait:.1%}. Seconds: "
        + ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in metrics.seconds.items())
        + ".",
        "",
        "![Loss, entropy of the choices, held-out accuracy](curves.svg)",
    ]
    return "\n".join(lines)


def _trials(metrics: MetaMetrics) -> str:
    if not metrics.num_trials:
        return ""
    taught = "what they teach is on the prior's card." if metrics.complete else "a resumed run makes those that lack."
    return f"## Trials\n\n{metrics.num_trials} trials, in `trials.jsonl`: {taught}"


def _data(metrics: MetaMetrics) -> str:
    lines = ["## Datasets", "", "| dataset | hash | learned from | held out | unseen |", "|---|---|---|---|---|"]
    for dataset in metrics.datasets:
        counts = (len(dataset.meta_train), len(dataset.meta_validation), len(dataset.meta_test))
        cells = (dataset.name, f"`{dataset.sha256[:12]}`", *(f"{count} classes" for count in counts))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _faults(metrics: MetaMetrics) -> str:
    counters = metrics.counters.model_dump()
    found = [f"- {counters[name]} {text}" for name, text in FAULTS.items() if counters[name]]
    found += [
        f"- {change.what} {change.value} from step {change.step} on: {change.why}" for change in metrics.adjustments
    ]
    return "\n".join(["## Faults", "", *found]) if found else ""
