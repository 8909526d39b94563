"""The pictures of `bench-actor`."""

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.meta_runs.actor_model import FAN_IN, NUM_SHARDS, RUN_NUM_SLOTS, Model, Point

COLORS: Final = ("tab:blue", "tab:orange", "tab:green", "tab:red")


def draw_updates(model: Model, points: Sequence[Point]) -> str:
    """Return updates a second over clients, measured and as the model has them, as an SVG document."""
    figure, axes = _figure(1)
    sizes = sorted({(point.channels, point.gradient_mb) for point in points}, key=lambda size: size[1])
    for color, (channels, size_mb) in zip(COLORS, sizes, strict=False):
        mine = [point for point in points if point.channels == channels]
        clients = range(1, max(point.clients for point in mine) + 1)
        curve = [model.updates_per_s(size_mb, mine[0].num_slots, number) for number in clients]
        axes[0].plot(clients, curve, color=color, linewidth=1)
        axes[0].plot(
            [point.clients for point in mine],
            [point.updates_per_s for point in mine],
            "o",
            color=color,
            label=f"{size_mb:.1f} MB",
        )
    axes[0].set_xscale("log", base=2)
    axes[0].set_yscale("log")
    axes[0].set_xlabel("clients that push without a pause")
    axes[0].set_ylabel("updates a second")
    axes[0].set_title("One parameter actor: measured (dots), model (lines)", fontsize=10)
    axes[0].legend(fontsize=8)
    return _svg(figure)


def draw_saturation(model: Model) -> str:
    """Return how many workers fill the actor, over size and seconds per slot; and what would take it further."""
    figure, axes = _figure(2)
    sizes, seconds = np.geomspace(0.1, 1000, 30), np.geomspace(0.02, 20, 30)
    full = [[model.full_at(size, second) for size in sizes] for second in seconds]
    for part in axes:  # before the lines are labeled: labels are placed by what the scale makes of them
        part.set_xlabel("size of the prior (MB)")
        part.set_xscale("log")
        part.set_yscale("log")
    levels = [1, 10, 100, 1000, 10_000]
    lines = axes[0].contour(sizes, seconds, full, levels=levels, colors="black", linewidths=1)
    axes[0].clabel(lines, fmt=lambda number: f"{number:.0f} workers", fontsize=8)
    axes[0].contourf(sizes, seconds, np.log10(full), levels=10, cmap="viridis", alpha=0.7)
    axes[0].set_ylabel("seconds per slot")
    axes[0].set_title("Workers that fill one actor", fontsize=10)
    ways = {
        "one actor": [model.full_at(size, 1.0) for size in sizes],
        f"sharded by {NUM_SHARDS}": [model.full_at(size / NUM_SHARDS, 1.0) for size in sizes],
        f"tree of fan-in {FAN_IN}": [FAN_IN * model.full_at(size, 1.0) for size in sizes],
    }
    for name, workers in ways.items():
        axes[1].plot(sizes, workers, label=name)
    axes[1].set_ylabel("workers")
    axes[1].set_title(f"Full at, with 1 s per slot and {RUN_NUM_SLOTS} slots a step", fontsize=10)
    axes[1].legend(fontsize=8)
    return _svg(figure)


def _figure(num_panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(6.3 * num_panels, 4.2), layout="constrained")
    FigureCanvasSVG(figure)
    axes = [figure.add_subplot(1, num_panels, place + 1) for place in range(num_panels)]
    for part in axes:
        part.grid(visible=True, alpha=0.3)
    return figure, axes


def _svg(figure: Figure) -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()
