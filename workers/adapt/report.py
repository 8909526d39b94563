"""The report that people read: `report.md`, with its numbers from `metrics.json`, and the curves as a picture."""

import io
from collections.abc import Mapping

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from workers.contracts.artifacts import Metrics
from workers.contracts.series import Point

NUM_CANDIDATES_SHOWN = 10


def write_report(metrics: Metrics, drawing: str) -> str:
    """Return the report as Markdown.

    Args:
        metrics: All numbers.
        drawing: The cell as text.
    """
    request, low, high = metrics.request, metrics.accuracy_interval.low, metrics.accuracy_interval.high
    name = table_text(request.name or metrics.adaptation_id)
    lines = [
        f"# {name}: {metrics.accuracy:.1%} on {metrics.num_test} test images",
        "",
        f"95 % interval {low:.1%} to {high:.1%} (Wilson). {metrics.verdict}",
        *([f"\n**Budget.** {metrics.budget_note}"] if metrics.budget_note else []),
        "",
        "| what | value |",
        "|---|---|",
        f"| architecture | `{table_text(metrics.architecture)}` |",
        *_calibration(metrics),
        f"| parameters | {metrics.cost.params:,} |",
        f"| MACs for one image | {metrics.cost.macs:,} |",
        f"| input | {metrics.resolution} x {metrics.resolution} RGB |",
        f"| images: train / held out / test | {metrics.num_train} / {metrics.num_query} / {metrics.num_test} |",
        *([f"| images trained on after the choice | {metrics.num_learned} |"] if metrics.num_learned else []),
        f"| unreadable images left out | {metrics.skipped_images} |",
        f"| test images equal to one trained on: left out / still in | {metrics.repeats_left_out} / "
        f"{metrics.repeats_in_test} |",
        f"| search space, prior, search | {request.search_space}, {metrics.prior}, {request.search} |",
        f"| seed | {metrics.seed} |",
        f"| dataset (SHA-256) | `{metrics.dataset_sha256}` |",
        "",
        "## Cell",
        "",
        "![The cell that was exported](cell.svg)",
        "",
        "```text",
        drawing.rstrip(),
        "```",
        "",
        "## Learning curves",
        "",
        "![Loss, held-out accuracy and entropy of the choices over time](curves.svg)",
        "",
        *_candidates(metrics),
        "## Accuracy by class",
        "",
        "| class | accuracy |",
        "|---|---|",
        *(f"| {table_text(label)} | {accuracy:.1%} |" for label, accuracy in metrics.per_class_accuracy.items()),
        "",
        "## Time",
        "",
        "| phase | seconds |",
        "|---|---|",
        *(f"| {phase} | {seconds:.1f} |" for phase, seconds in metrics.timings_s.items()),
        "",
        "## Export",
        "",
        "Each model file was loaded again and compared with the trained network on held-out images.",
        "",
        "| file | largest difference of a logit |",
        "|---|---|",
        *(f"| {file} | {difference:.2g} |" for file, difference in metrics.max_reload_difference.items()),
        "",
        "## To make it again",
        "",
        "| what | value |",
        "|---|---|",
        *(f"| plan: {key} | {table_text(str(value))} |" for key, value in metrics.plan.items() if value is not None),
        *(f"| {library} | {version} |" for library, version in metrics.versions.items()),
        "",
    ]
    return "\n".join(lines)


def draw_curves(series: Mapping[str, tuple[Point, ...]]) -> str:
    """Return loss, held-out accuracy and mean entropy of the choices over seconds, as an SVG document."""
    panels = (
        ("loss (nats)", ("search_loss", "race_loss", "train_loss")),
        ("held-out accuracy", ("query_accuracy",)),
        ("entropy of the choices (nats)", ("entropy",)),
    )
    shown = [(title, [name for name in names if series.get(name)]) for title, names in panels]
    shown = [(title, names) for title, names in shown if names]
    figure = Figure(figsize=(4.2 * max(1, len(shown)), 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    for position, (title, names) in enumerate(shown, start=1):
        axes = figure.add_subplot(1, len(shown), position)
        for name in names:
            points = series[name]
            axes.plot([point[1] for point in points], [point[2] for point in points], label=name, marker=".")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("seconds since staging began", fontsize=9)
        axes.grid(visible=True, alpha=0.3)
        if len(names) > 1:
            axes.legend(fontsize=8)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()


def _calibration(metrics: Metrics) -> list[str]:
    rows = []
    if metrics.nll is not None:
        rows.append(f"| negative log-likelihood of a test image's label | {metrics.nll:.4f} nats |")
    if metrics.calibration_error is not None:
        rows.append(f"| expected calibration error (15 bins) | {metrics.calibration_error:.1%} |")
    return rows


def _candidates(metrics: Metrics) -> list[str]:
    if not metrics.candidates:
        return []
    shown = metrics.candidates[:NUM_CANDIDATES_SHOWN]
    return [
        "## Candidates",
        "",
        f"The first {len(shown)} of {len(metrics.candidates)}: those that were raced, then the others with inherited "
        "weights, each by held-out loss before the final training.",
        "",
        "| architecture | held-out loss | held-out accuracy | parameters | MACs | from | |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| `{table_text(c.architecture)}` | {c.query_loss:.4f} | {c.query_accuracy:.1%} | {c.params:,} "
            f"| {c.macs:,} | {c.source} | {'exported' if c.chosen else ''} |"
            for c in shown
        ),
        "",
    ]


def table_text(text: str) -> str:
    """Return text that breaks neither a Markdown table nor a heading."""
    return " ".join(text.splitlines()).replace("|", "\\|")
