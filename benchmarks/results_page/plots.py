"""The page's pictures: the same numbers make the same bytes."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.results_page.reading import Interval

WIDTH: Final = 0.8


@dataclass(frozen=True)
class Curve:
    """Points (x, y, error of y) with a label."""

    label: str
    points: Sequence[tuple[float, float, float]]


def draw_intervals(rows: Mapping[str, Interval], label: str, marks: Sequence[float] = (0.0,)) -> str:
    """Return means with intervals, one under the other.

    Args:
        rows: By name, from above.
        label: Of the axis.
        marks: Where vertical lines stand.
    """
    figure, axes = _figure(7.0, 1.0 + 0.28 * len(rows))
    for place, interval in enumerate(rows.values()):
        low, high = _reach(interval)
        axes.errorbar(interval.mean, place, xerr=[[low], [high]], fmt="o", color="C0", capsize=3)
    for mark in marks:
        axes.axvline(mark, color="black", linewidth=0.8, linestyle="-" if mark == 0 else "--")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.grid(visible=True, axis="x", alpha=0.3)
    return _svg(figure)


def draw_bars(groups: Mapping[str, Mapping[str, Interval]], label: str, *, faint: Sequence[str] = ()) -> str:
    """Return bars of every group side by side, with intervals.

    Args:
        groups: By group, by bar; a bar that a group lacks stays empty.
        label: Of the axis.
        faint: Bars that are no rivals of the others.
    """
    figure, axes = _figure(9.0, 3.8)
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    thickness = WIDTH / len(names)
    for place, name in enumerate(names):
        there = [(at, bars[name]) for at, bars in enumerate(groups.values()) if name in bars]
        axes.bar(
            [at + (place + 0.5) * thickness - WIDTH / 2 for at, _ in there],
            [interval.mean for _, interval in there],
            width=0.9 * thickness,
            yerr=[[_reach(interval)[end] for _, interval in there] for end in (0, 1)],
            error_kw={"linewidth": 0.8},
            color=f"C{place}",
            alpha=0.35 if name in faint else 1.0,
            label=name,
        )
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_ylabel(label)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="y", alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return _svg(figure)


def draw_curves(panels: Mapping[str, Sequence[Curve]], x_label: str, y_label: str) -> str:
    """Return curves over a logarithmic axis, a panel for each name."""
    figure = Figure(figsize=(3.4 * len(panels) + 0.6, 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    for place, (name, curves) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), place)
        for number, curve in enumerate(curves):
            x, y, error = zip(*curve.points, strict=True)
            axes.errorbar(x, y, yerr=error, color=f"C{number}", marker="o", capsize=3, label=curve.label)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(name)
        axes.set_xlabel(x_label)
        axes.grid(visible=True, alpha=0.3)
        if place == 1:
            axes.set_ylabel(y_label)
            axes.legend(fontsize=8)
    return _svg(figure)


def _reach(interval: Interval) -> tuple[float, float]:
    """Return how far an interval reaches below and above its mean."""
    low = interval.mean if interval.low is None else interval.low
    high = interval.mean if interval.high is None else interval.high
    return max(0.0, interval.mean - low), max(0.0, high - interval.mean)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def _svg(figure: Figure) -> str:
    drawn = io.StringIO()
    # Ids come from the salt; text stays text, whatever fonts there are.
    with rc_context({"svg.hashsalt": "archprior", "svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return drawn.getvalue()
