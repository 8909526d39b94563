"""The sections of `bench-step` and `bench-step-ranking`: how fast a search step is, and a search."""

from typing import Final

from benchmarks.results_page.markdown import paragraphs, table, words
from benchmarks.results_page.plots import Curve, draw_curves, draw_intervals
from benchmarks.results_page.reading import Interval, Results, Seen
from benchmarks.results_page.section import Benchmark, Finding, Reached, Told

TO_CLASSIC, TO_RELAXED = 20.0, 4.0


class Ratio(Seen):
    """How many times faster, over rounds."""

    median: float
    least: float
    largest: float

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.least:.1f} to {self.largest:.1f})"


class Speed(Seen):
    """Of a way to search, in images a second, and its peak memory."""

    images_per_s: float
    peak_mb: float


class Row(Speed):
    """Of a space, a size and a mode."""

    space: str
    side: int
    batch: int
    mode: str


class StepDocument(Seen):
    """A file of results of `bench-step`."""

    reference: str
    threads: int
    ways: dict[str, Speed]
    ratio_to_classic: Ratio
    ratio_to_relaxed_channels_last: Ratio
    ratio_to_classic_by_cpu_seconds: Ratio | None = None
    split: dict[str, Ratio]
    grid: tuple[Row, ...]


class Comparison(Seen):
    """Mean curves (CPU seconds, tau) of both ways, and the seconds of each to the tau at which the slow one ends.

    `ratios`: of each seed by itself.
    """

    tau: float
    seconds: dict[str, float | None]
    ratio: float | None
    ratios: tuple[float | None, ...]
    curves: dict[str, tuple[tuple[float, float], ...]]


class RankingDocument(Seen):
    """A file of results of `bench-step-ranking`."""

    time_to_equal_rank_correlation: Comparison
    cpu_s_each: float
    cells: int
    data: str


def tell_speed(results: Results) -> Told:
    """Return what the file of `bench-step` says."""
    found = results.read(StepDocument)
    by_cpu = found.ratio_to_classic_by_cpu_seconds
    findings = {
        "classic": _times(found.ratio_to_classic, TO_CLASSIC, "" if by_cpu is None else f"; by CPU seconds {by_cpu}"),
        "relaxed": _times(found.ratio_to_relaxed_channels_last, TO_RELAXED, ""),
    }
    if parts := [part for part in ("layout", "sampling", "rest") if part in found.split]:
        findings["split"] = Finding(" x ".join(f"{part} {found.split[part]}" for part in parts), Reached.SHOWN)
    ways = [[f"`{name}`", f"{way.images_per_s:.1f}", f"{way.peak_mb:.0f}"] for name, way in found.ways.items()]
    grid = [
        [row.space, f"{row.side}", f"{row.batch}", row.mode, f"{row.images_per_s:.1f}", f"{row.peak_mb:.0f}"]
        for row in found.grid
    ]
    split = [[name.replace("_", " "), str(ratio)] for name, ratio in found.split.items()]
    speeds = {name: Interval(mean=way.images_per_s) for name, way in found.ways.items()}
    return Told(
        findings=findings,
        body=paragraphs(
            f"Reference: {found.reference}; {found.threads} threads. `classic` is the relaxed, default-layout, "
            "first-order step of DARTS, `product` that of an adaptation.",
            table(["way", "images/s", "peak MB"], ways),
            "![Images a second by way](images/results/step.svg)",
            "What makes it faster, median over rounds (least to largest):",
            table(["part", "times"], split),
            table(["space", "side", "batch", "mode", "images/s", "peak MB"], grid),
        ),
        plots={"step": draw_intervals(speeds, "images/s")},
    )


def tell_ranking(results: Results) -> Told:
    """Return what the file of `bench-step-ranking` says."""
    found = results.read(RankingDocument)
    one = found.time_to_equal_rank_correlation
    slow, fast = one.seconds.get("slow"), one.seconds.get("fast")
    text = f"tau {one.tau:.2f}: classic {_seconds(slow)}, ours {_seconds(fast)}"
    if one.ratio is not None:
        by_seed = words("never" if ratio is None else f"{ratio:g}" for ratio in one.ratios)
        text += f", {one.ratio:g} times faster by mean curves; seed by seed {by_seed}"
    finding = Finding(text, Reached.SHOWN)
    names = {"slow": "classic", "fast": "ours"}
    curves = [Curve(names.get(name, name), [(s, tau, 0.0) for s, tau in points]) for name, points in one.curves.items()]
    rows = [[names.get(name, name), f"{s:g}", f"{tau:.2f}"] for name, points in one.curves.items() for s, tau in points]
    return Told(
        findings={"time": finding},
        body=paragraphs(
            f"{found.cells} cells, {found.cpu_s_each:g} CPU seconds for each search; {found.data}.",
            "![Kendall's tau against CPU seconds](images/results/step_ranking.svg)",
            table(["step", "CPU seconds", "tau"], rows),
        ),
        plots={"step_ranking": draw_curves({"": curves}, "CPU seconds", "Kendall's tau")},
    )


def _times(ratio: Ratio, wanted: float, more: str) -> Finding:
    return Finding(f"{ratio} times{more}", Reached.YES if ratio.median >= wanted else Reached.NO)


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:g} s"


SPEED: Final = Benchmark(
    name="step",
    title="Speed of a search step",
    about="Images a second of a step on weights and choices, against the classic step.",
    files="step.json",
    command="make bench-step",
    asked={
        "classic": "20 times as fast as the classic step, or more",
        "relaxed": "4 times as fast as the relaxed step in `channels_last`, or more",
        "split": "split into layout x sampling x rest",
    },
    tell=tell_speed,
)
RANKING: Final = Benchmark(
    name="step_ranking",
    title="Time to equal rank correlation",
    about="CPU seconds until a supernet ranks cells as well as the classic one does in the end.",
    files="step_ranking.json",
    command="make bench-step-ranking",
    asked={"time": "time to equal rank correlation"},
    tell=tell_ranking,
)
