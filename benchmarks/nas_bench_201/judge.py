"""Where chosen cells stand in the table, among the cells within the same cap. The only reader of a table.

| word | meaning |
|---|---|
| regret | accuracy of the best cell within the cap, less that of the chosen one, in points |
| top | percentage of the cells within the cap that are better than the chosen one |
"""

import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.nas_bench_201.cells import Cap, cell_of, cells_within, costs, digits_of
from benchmarks.nas_bench_201.job import Decision
from benchmarks.nas_bench_201.runs import Run
from benchmarks.nas_bench_201.table import Table
from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidOptionError
from workers.bench.bootstrap import bootstrap

TOP_PERCENTS: Final = (5, 1)
ORACLE: Final = "constant_by_table_of_"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A choice in the table: accuracy in percent, regret in points, top in percent; means where cells are tied."""

    arm: str
    cap: str
    seed: int
    cells: tuple[str, ...]
    accuracy: float
    regret: float
    top: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Means of an arm's runs at a cap, with 95 % bootstrap intervals over seeds: mean, low, high.

    Attributes:
        in_top: Whether the mean top is at most so many percent.
    """

    runs: int
    accuracy: dict[str, float]
    regret: dict[str, float]
    top: dict[str, float]
    in_top: dict[int, bool]


class Judge:
    """Looks decided cells up.

    Args:
        table: Of accuracies.
        column: Of the accuracies that count.
        after: The decisions that were made before the table was opened, in words, for the log.
    """

    def __init__(self, table: Table, column: str, after: str) -> None:
        self._table, self._column, self._after = table, column, after
        self._within: dict[str, dict[Architecture, float]] = {}

    def stand(self, run: Run, decision: Decision) -> Standing:
        """Return where a run's cells stand.

        Raises:
            InvalidOptionError: A cell is not within the cap, or not in the table.
        """
        after = f"{run.path.name} {hashlib.sha256(run.path.read_bytes()).hexdigest()[:12]}"
        return self._stand(run.job.arm, run.cap, run.job.seed, decision.choice.cells, after)

    def oracle(self, dataset: str, column: str, cap: Cap) -> Standing:
        """Return where the cell stands that is the best within the cap by the table's column of another dataset.

        Nobody could choose so without a table: every cell was trained on that dataset.
        """
        arm = f"{ORACLE}{dataset}"
        there = self._table.column(column, asker=arm, after=f"{arm}: an oracle, it chooses by the table")
        within = [cell for cell in there if cell in costs() and costs()[cell].macs <= cap.max_macs]
        best = max(within, key=there.__getitem__)
        return self._stand(arm, cap, 0, (digits_of(best),), f"{arm} chose {digits_of(best)}")

    def field(self, cap: Cap) -> Mapping[str, float]:
        """Return how many cells are within the cap, and the accuracies of the best, the mean and the worst."""
        values = sorted(self._field(cap).values())
        return {
            "num_cells": len(values),
            "best": values[-1],
            "mean": round(statistics.fmean(values), 3),
            "worst": values[0],
        }

    def _stand(self, arm: str, cap: Cap, seed: int, cells: Sequence[str], after: str) -> Standing:
        chosen = [cell_of(digits) for digits in cells]
        for cell in chosen:
            macs = costs()[cell].macs if cell in costs() else None
            if macs is None or macs > cap.max_macs:
                got = "no way through the cell" if macs is None else f"{macs} MACs"
                raise InvalidOptionError(
                    f"cell {digits_of(cell)} of {arm}", got=got, expected=f"at most {cap.max_macs}"
                )
        accuracies = self._table.accuracies(chosen, self._column, asker=arm, after=after)
        field = list(self._field(cap).values())
        best = max(field)
        return Standing(
            arm=arm,
            cap=cap.name,
            seed=seed,
            cells=tuple(cells),
            accuracy=statistics.fmean(accuracies),
            regret=statistics.fmean(best - value for value in accuracies),
            top=statistics.fmean(100 * sum(other > value for other in field) / len(field) for value in accuracies),
        )

    def _field(self, cap: Cap) -> Mapping[Architecture, float]:
        if cap.name not in self._within:
            accuracies = self._table.column(self._column, asker="judge", after=self._after)
            self._within[cap.name] = {
                cell: accuracies[cell] for cell in cells_within(cap.max_macs) if cell in accuracies
            }
        return self._within[cap.name]


def summarize(standings: Sequence[Standing]) -> dict[str, Summary]:
    """Return what the runs at one cap come to, by arm."""
    arms = dict.fromkeys(standing.arm for standing in standings)
    return {arm: _of_arm([standing for standing in standings if standing.arm == arm]) for arm in arms}


def compare(standings: Sequence[Standing], ours: str) -> dict[str, object]:
    """Return how our mean regret compares with the least mean regret of others, with and without oracles.

    Returns:
        For `rivals` and `with_oracles`: the best other arm, its mean regret, ours over it (None where it has none),
        and whether ours is at most half of it. Empty where there is nothing to compare.
    """
    means = _mean_regrets(standings)
    if ours not in means:
        return {}
    others = {arm: mean for arm, mean in means.items() if arm != ours}
    fields = {
        "rivals": {arm: mean for arm, mean in others.items() if not arm.startswith(ORACLE)},
        "with_oracles": others,
    }
    found: dict[str, object] = {}
    for name, rivals in fields.items():
        if rivals:
            best = min(rivals, key=rivals.__getitem__)
            found[name] = {
                "best": best,
                "regret": round(rivals[best], 4),
                "ours_over_it": round(means[ours] / rivals[best], 3) if rivals[best] > 0 else None,
                "at_most_half": means[ours] <= 0.5 * rivals[best],
            }
    return found


def _of_arm(standings: Sequence[Standing]) -> Summary:
    top = bootstrap([standing.top for standing in standings])
    return Summary(
        runs=len(standings),
        accuracy=bootstrap([standing.accuracy for standing in standings]),
        regret=bootstrap([standing.regret for standing in standings]),
        top=top,
        in_top={percent: top["mean"] <= percent for percent in TOP_PERCENTS},
    )


def _mean_regrets(standings: Sequence[Standing]) -> dict[str, float]:
    by_arm: dict[str, list[float]] = {}
    for standing in standings:
        by_arm.setdefault(standing.arm, []).append(standing.regret)
    return {arm: statistics.fmean(values) for arm, values in by_arm.items()}
