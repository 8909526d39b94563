"""How long a way to search takes until its supernet ranks cells as well as another's does in the end.

NAS-Bench-201's cell (16 channels, one cell a stage) on CIFAR-10 at 16x16, batch 64, one thread, from fresh weights.
What a supernet thinks of a cell is its loss on held-out images with the supernet's weights; what the cell is worth is
its accuracy after 12 epochs of CIFAR-10 in the table of NAS-Bench-201. Kendall's tau between the two, over cells drawn
uniformly, is taken at shares of the CPU seconds that each way gets; ranking itself costs none of them. Both ways of a
seed run side by side, one thread each; CPU seconds, because others may use the machine.

`classic` is the step of DARTS, `product` that of an adaptation: a step on the choices after every fourth on the
weights.

usage: python -m benchmarks.search.step_ranking [--seconds S] [--seeds N]
"""

import argparse
import csv
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats

from benchmarks.machine import ROOT, describe, write
from benchmarks.search.step_arms import Way, macro_of, search
from search_spaces.architecture import Architecture
from search_spaces.registry import SPACES
from search_spaces.supernet import Supernet
from workers.adapt.data import Part, TaskData, make_part
from workers.tasks.sources import load_source

DATA: Final = Path(os.environ.get("ARCHPRIOR_SHARED_DATA", ROOT.parent / "shared" / "data"))
SOURCE: Final = DATA / "cifar10_test.npz"
TABLE: Final = DATA / "nasbench201_e12_val.csv.gz"
SPACE: Final = "nas_bench_201"
SIDE, BATCH, NUM_QUERY, NUM_CELLS, NUM_RANKING = 16, 64, 2000, 100, 256
SHARES: Final = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
WAYS: Final[Mapping[str, Way]] = {"classic": Way(), "product": Way(product=True, choice_every=4)}

Curve = list[tuple[float, float]]
"""(CPU seconds of search, Kendall's tau), in order."""


def main() -> int:
    """Measure, write the results, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=150.0, help="CPU seconds of each search")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--one", nargs=2, metavar=("WAY", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (SOURCE.exists() and TABLE.exists()):
        print(f"not run: {DATA} lacks {SOURCE.name} or {TABLE.name}; set ARCHPRIOR_SHARED_DATA to the folder with both")
        return 1
    if options.one:
        print(json.dumps(examine(WAYS[options.one[0]], int(options.one[1]), options.seconds)))
        return 0
    machine, started_s = describe(), time.monotonic()
    curves: dict[str, list[Curve]] = {name: [] for name in WAYS}
    steps: dict[str, list[int]] = {name: [] for name in WAYS}
    for seed in range(options.seeds):
        flags = ["--seconds", str(options.seconds), "--one"]
        running = {
            name: subprocess.Popen(
                [sys.executable, "-m", "benchmarks.search.step_ranking", *flags, name, str(seed)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in WAYS
        }
        for name, process in running.items():
            printed, _ = process.communicate()
            if process.returncode:
                for other in running.values():
                    other.kill()
                    other.wait()
                print(f"not run: the search by {name}, seed {seed}, ended with status {process.returncode}")
                return 1
            outcome = json.loads(printed.splitlines()[-1])
            curves[name].append([(used_s, tau) for used_s, tau in outcome["curve"]])
            steps[name].append(outcome["num_steps"])
            print(f"seed {seed}, {name}: {curves[name][-1]}, {outcome['num_steps']} steps", flush=True)
    results = {
        "benchmark": "step_ranking",
        "time_to_equal_rank_correlation": compare(curves["classic"], curves["product"]),
        "cpu_s_each": options.seconds,
        "steps": steps,
        "cells": NUM_CELLS,
        "data": f"{SOURCE.name}: JPEG copies, to be compared with each other only",
        "gpu": "not run",
        "total_s": round(time.monotonic() - started_s),
        **machine,
    }
    write("step_ranking", results, {"curves": curves})
    return 0


class Examiner:
    """Told after each step; ranks at the shares of the CPU seconds, with its own clock stopped meanwhile."""

    def __init__(self, cells: Mapping[Architecture, float], part: Part, total_s: float) -> None:
        self._cells, self._part, self._due_s = cells, part, [share * total_s for share in SHARES]
        self._started_s = time.process_time()
        self._paused_s = 0.0
        self._supernet: Supernet | None = None
        self.curve: Curve = []
        self.num_steps = 0

    def begin(self, supernet: Supernet) -> None:
        self._supernet = supernet

    def lap(self) -> bool:
        self.num_steps += 1
        used_s = time.process_time() - self._started_s - self._paused_s
        if self._supernet is not None and used_s >= self._due_s[len(self.curve)]:
            before_s = time.process_time()
            self.curve.append((round(used_s, 2), round(rank(self._supernet, self._cells, self._part), 4)))
            self._paused_s += time.process_time() - before_s
        return len(self.curve) < len(self._due_s)


def examine(way: Way, seed: int, total_s: float) -> dict[str, object]:
    """Return the curve of one search and its number of steps."""
    torch.set_num_threads(1)
    data, macro = load_data(), macro_of(SPACE, SIDE, num_channels=16, num_cells=1)
    examiner = Examiner(draw_cells(), data.query.first(NUM_RANKING), total_s)
    search(SPACE, macro, BATCH, way, data, seed=seed, observer=examiner)
    return {"curve": examiner.curve, "num_steps": examiner.num_steps}


def load_data() -> TaskData:
    """Return images to learn weights from and images to choose and to rank by."""
    source = load_source(SOURCE, SIDE)
    order = np.random.default_rng(0).permutation(len(source))
    parts = [
        make_part(source.images, source.labels, index, torch.device("cpu"))
        for index in (order[NUM_QUERY:], order[:NUM_QUERY], order[:0])
    ]
    return TaskData(support=parts[0], query=parts[1], test=parts[2], classes=source.classes)


def draw_cells() -> dict[Architecture, float]:
    """Return cells drawn uniformly from the table's valid ones, each with its accuracy in percent."""
    space = SPACES[SPACE]
    with gzip.open(TABLE, "rt") as lines:
        rows = [(tuple(map(int, row["ops"])), float(row["e12_cifar10-val"])) for row in csv.DictReader(lines)]
    cells = {Architecture(SPACE, ops): accuracy for ops, accuracy in rows}
    valid = [cell for cell in cells if space.is_valid(cell)]
    return {cell: cells[cell] for cell in random.Random(0).sample(valid, NUM_CELLS)}


def rank(supernet: Supernet, cells: Mapping[Architecture, float], part: Part) -> float:
    """Return Kendall's tau between the cells' held-out losses, negated, and their accuracies."""
    ((images, labels),) = part.batches(len(part))
    with torch.no_grad():
        losses = [float(F.cross_entropy(supernet(images, cell), labels)) for cell in cells]
    return float(stats.kendalltau([-loss for loss in losses], list(cells.values())).statistic)


def seconds_to(curve: Curve, tau: float) -> float | None:
    """Return the CPU seconds of the first point of a curve that reaches a tau; None: it never does."""
    return next((used_s for used_s, found in curve if found >= tau), None)


def compare(slow: Sequence[Curve], fast: Sequence[Curve]) -> dict[str, object]:
    """Return how long two ways take to the tau at which the slow one ends.

    Returns:
        Of the mean curves, which are there too: `tau`, where the slow one ends; `seconds`, of each way to that tau;
        `ratio`, slow over fast, None where the fast one never gets there. `ratios`: the same of each seed by itself.
    """
    found = _compared({name: mean_curve(curves) for name, curves in (("slow", slow), ("fast", fast))})
    seeds = [_compared({"slow": one, "fast": other}) for one, other in zip(slow, fast, strict=True)]
    return {**found, "ratios": [seed["ratio"] for seed in seeds]}


def _compared(curves: Mapping[str, Curve]) -> dict[str, object]:
    tau = curves["slow"][-1][1]
    needed = {name: seconds_to(curve, tau) for name, curve in curves.items()}
    ratio = None if not needed["fast"] or not needed["slow"] else round(needed["slow"] / needed["fast"], 1)
    return {"tau": tau, "seconds": needed, "ratio": ratio, "curves": curves}


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Return the means over seeds, point by point."""
    return [
        (round(statistics.mean(s for s, _ in points), 2), round(statistics.mean(tau for _, tau in points), 4))
        for points in zip(*curves, strict=True)
    ]


if __name__ == "__main__":
    sys.exit(main())
