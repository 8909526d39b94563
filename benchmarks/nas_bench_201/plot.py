"""The picture of `bench-nas201`."""

import io
from collections.abc import Mapping
from typing import Final

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.nas_bench_201.cells import NO_CAP
from benchmarks.nas_bench_201.judge import ORACLE, Summary

WIDTH: Final = 0.8


def draw_regrets(by_cap: Mapping[str, Mapping[str, Summary]], title: str) -> str:
    """Return mean regret by cap and arm, with 95 % intervals over seeds, as an SVG document.

    Args:
        by_cap: Summaries by cap and arm; every cap has the same arms.
        title: Above it.
    """
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    arms = list(next(iter(by_cap.values())))
    thickness = WIDTH / len(arms)
    for place, arm in enumerate(arms):
        found = [by_cap[cap][arm].regret for cap in by_cap]
        means = [item["mean"] for item in found]
        errors = [[item["mean"] - item["low"] for item in found], [item["high"] - item["mean"] for item in found]]
        axes.bar(
            [number + (place + 0.5) * thickness - WIDTH / 2 for number in range(len(by_cap))],
            means,
            width=0.9 * thickness,
            yerr=errors,
            error_kw={"linewidth": 0.8},
            color=f"C{place}",
            # Oracles look into a table: no rivals.
            alpha=0.35 if arm.startswith(ORACLE) else 1.0,
            label=arm.replace("_", " "),
        )
    axes.set_xticks(range(len(by_cap)), [f"at most {cap} of the MACs" if cap != NO_CAP else "no cap" for cap in by_cap])
    axes.set_ylabel("points below the best cell within the cap")
    axes.set_title(title, fontsize=10)
    axes.grid(visible=True, axis="y", alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()
