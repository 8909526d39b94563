"""The section of `bench-nas201`: where the cells stand that a minute chooses."""

from typing import Final

from benchmarks.results_page.markdown import number, paragraphs, table
from benchmarks.results_page.plots import draw_bars
from benchmarks.results_page.reading import Interval, Results, Seen
from benchmarks.results_page.section import Benchmark, Finding, Reached, Told

NO_CAP: Final = "100%"
CAPS: Final = ("10%", "25%", "50%", NO_CAP)
SECONDS, THREADS, SEEDS, COLUMN = 60.0, 2, 5, "e12_cifar10-val"
# Of those that see no table, what was asked for: zero-cost scores count as one.
RIVALS: Final = ("most_params", "random_best_of_n")
ZERO_COST: Final = ("naswot", "synflow")
OURS, ORACLE = "ours", "constant_by_table_of_"


CLOCKS: Final = {"wall": "of the clock", "cpu": "of CPU over the number of threads"}


class ArmSeen(Seen):
    """An arm's runs at a cap: accuracy in percent, regret in points, top in percent."""

    runs: int
    accuracy: Interval
    regret: Interval
    top: Interval


class Rival(Seen):
    """The best other arm, and how ours compares with it."""

    best: str
    regret: float
    ours_over_it: float | None
    at_most_half: bool


class CapSeen(Seen):
    """What came out at a cap."""

    max_macs: int
    num_cells: int
    best: float
    mean: float
    arms: dict[str, ArmSeen]


class Document(Seen):
    """A file of results."""

    column: str
    seconds: float
    threads: int
    clock: str
    seeds: int
    used_s: dict[str, float]
    prior: str
    caps: dict[str, CapSeen]
    ours_under_caps: dict[str, Rival]


def tell(results: Results) -> Told:
    """Return what the file says."""
    found = results.read(Document)
    findings = {}
    free = found.caps.get(NO_CAP)
    if free is not None and OURS in free.arms:
        top = free.arms[OURS].top
        for percent in (5, 1):
            reached = Reached.YES if top.mean <= percent else Reached.NO
            findings[f"top_{percent}"] = Finding(f"top {number(top, digits=1)} %", reached)
    for key, field in (("half", "rivals"), ("half_of_oracles", "with_oracles")):
        if field in found.ours_under_caps:
            rival = found.ours_under_caps[field]
            times = "which has none" if rival.ours_over_it is None else f"ours is {rival.ours_over_it:.2f} of it"
            text = f"the best other is `{rival.best}` with a mean regret of {rival.regret:.2f} points; {times}"
            findings[key] = Finding(text, Reached.YES if rival.at_most_half else Reached.NO)
    bars = {
        "no cap" if cap == NO_CAP else f"at most {cap}": {
            arm.replace("_", " "): one.regret for arm, one in seen.arms.items()
        }
        for cap, seen in found.caps.items()
    }
    names = [arm for seen in found.caps.values() for arm in seen.arms]
    faint = [arm.replace("_", " ") for arm in names if arm.startswith(ORACLE)]
    plots = {}
    if names:
        plots["nas201"] = draw_bars(bars, "points below the best cell within the cap on MACs", faint=faint)
    return Told(
        findings=findings,
        body=paragraphs(
            f"{found.seconds:g} seconds {CLOCKS[found.clock]}, {found.threads} threads, {found.seeds} seeds, prior "
            f"`{found.prior}`; column `{found.column}` of the table. The longest runs took {_longest(found)}. Regret: "
            "points below the best cell within the cap. Top: the share of the cells within the cap that are better. "
            f"Means over seeds, 95 % bootstrap intervals. Arms named `{ORACLE}...` choose by the table itself, of "
            "another dataset.",
            "![Regret by cap and arm](images/results/nas201.svg)" if plots else "",
            _table(found),
        ),
        plots=plots,
        missing=_missing(found),
    )


def _longest(found: Document) -> str:
    return ", ".join(f"{seconds:.0f} s (`{arm}`)" for arm, seconds in found.used_s.items() if seconds >= 1)


def _table(found: Document) -> str:
    rows = [
        [
            f"{'none' if cap == NO_CAP else cap}: {seen.num_cells} cells, best {seen.best:.1f}, mean {seen.mean:.1f}",
            f"`{arm}`",
            str(one.runs),
            number(one.accuracy, digits=1),
            number(one.regret, digits=2),
            number(one.top, digits=1),
        ]
        for cap, seen in found.caps.items()
        for arm, one in seen.arms.items()
    ]
    return table(["cap on the MACs", "arm", "runs", "accuracy, %", "regret, points", "top, %"], rows)


def _missing(found: Document) -> tuple[str, ...]:
    lacking = [f"the cap of {cap}" for cap in CAPS if cap not in found.caps]
    if found.seeds < SEEDS:
        lacking.append(f"{found.seeds} of {SEEDS} seeds")
    wanted = {"seconds": SECONDS, "threads": THREADS, "column": COLUMN}
    for what, value in wanted.items():
        if getattr(found, what) != value:
            lacking.append(f"{what}: {getattr(found, what)} instead of {value}")
    for cap, seen in found.caps.items():
        lacking += [f"`{arm}` at {cap}" for arm in (OURS, *RIVALS) if arm not in seen.arms]
        if not set(ZERO_COST) & set(seen.arms):
            lacking.append(f"a zero-cost score at {cap}")
    return tuple(lacking)


BENCHMARK: Final = Benchmark(
    name="nas201",
    title="Cells chosen in a minute, by the table of NAS-Bench-201",
    about="CIFAR-10, 60 s on 2 cores: where the chosen cells stand in the 12-epoch table, without a cap and under caps "
    "on MACs. No arm but the oracles sees the table before all have chosen.",
    files="nas201.json",
    command="make bench-nas201",
    asked={
        "top_5": "without a cap: in the top 5 % in the mean",
        "top_1": "the aim: in the top 1 %",
        "half": "under caps: regret at most half of the best other's that sees no table",
        "half_of_oracles": "the same, with the best constants by the table of another dataset",
    },
    tell=tell,
)
