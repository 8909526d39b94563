"""The section of `bench-ranking`: how well a prior ranks architectures."""

from typing import Final

from benchmarks.results_page.markdown import number, paragraphs, table, words
from benchmarks.results_page.plots import draw_bars
from benchmarks.results_page.reading import Interval, Results, Seen
from benchmarks.results_page.section import Benchmark, Finding, Told, beyond

ARCHITECTURES: Final = 90  # "about 100"
OURS: Final = ("ranks", "chooses", "one_shot", "option_logits")
"""Ways of the prior, the one that knows most first."""


class Way(Seen):
    """Means over tasks of a way to rank."""

    tau: float
    precision_top_5_percent: float
    regret: float
    tau_above_params: Interval


class Document(Seen):
    """A file of results."""

    prior: str
    architectures: int
    tasks: dict[str, int]
    mean: dict[str, Way]
    by_domain: dict[str, dict[str, Way]]


def tell(results: Results) -> Told:
    """Return what the file says."""
    found = results.read(Document)
    findings = {}
    ours = next((way for way in OURS if way in found.mean), None)
    if ours is not None:
        way = found.mean[ours]
        text = (
            f"`{found.prior}`, `{ours}`: tau {way.tau:.2f}, above counting by "
            f"{number(way.tau_above_params, digits=2)}; precision at the top 5 % {way.precision_top_5_percent:.2f}"
        )
        findings["tau"] = Finding(text, beyond(way.tau_above_params, 0.0))
    name = results.name.removesuffix(".json")
    bars = {
        domain: {way: Interval(mean=one.tau) for way, one in ways.items()} for domain, ways in found.by_domain.items()
    }
    plots = {name: draw_bars(bars, "Kendall's tau")} if any(bars.values()) else {}
    rows = [
        [
            f"`{way}`",
            f"{one.tau:.2f}",
            number(one.tau_above_params, digits=2),
            f"{one.precision_top_5_percent:.2f}",
            f"{one.regret:.3f}",
        ]
        for way, one in found.mean.items()
    ]
    tasks = words(f"{count} of {domain}" for domain, count in found.tasks.items())
    return Told(
        findings=findings,
        body=paragraphs(
            f"Prior `{found.prior}`; {found.architectures} random architectures, briefly trained on tasks of "
            f"meta-validation classes: {tasks}. Means over tasks; regret is the loss that the first choice gives away.",
            table(["ranked by", "tau", "above counting", "precision at the top 5 %", "regret"], rows),
            f"![Kendall's tau by domain](images/results/{name}.svg)" if plots else "",
        ),
        plots=plots,
        missing=() if found.architectures >= ARCHITECTURES else (f"{found.architectures} of about 100 architectures",),
    )


BENCHMARK: Final = Benchmark(
    name="ranking",
    title="Ranking architectures",
    about="How well what a prior knows ranks architectures that it never tried, on classes that it never met, beside "
    "counting parameters. No NAS table is read.",
    files="ranking_*.json",
    command="make bench-ranking",
    asked={"tau": "about 100 cells are ranked better than by counting parameters"},
    tell=tell,
)
