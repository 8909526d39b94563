"""How fast a search step is: against DARTS' own, split into layout, sampling and the rest; and across spaces and sizes.

The reference is the search step of DARTS (relaxed, torch's default layout, first-order bilevel), on this project's
supernet of 16 channels and 8 cells at 32x32, batch 32. An image counts once for each batch that it is in: of the
weights, and of the choices, which every way updates in each step. Each turn is a process of its own, so that its peak
memory is its own; turns of the ways alternate, round after round, so that the machine's moods hit all alike. Images are
decoded and in memory. Ratios are medians over rounds.

usage: python -m benchmarks.search.step [--rounds N] [--least-s S] [--threads N] [--cells N]
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch

from benchmarks.machine import ROOT, describe, write
from benchmarks.search.step_arms import Job, Measured, Way, macro_of, measure
from search_spaces.spec import Macro

CLASSIC, PRODUCT = "classic", "product"
WAYS: Final[Mapping[str, Way]] = {
    CLASSIC: Way(),
    "relaxed_channels_last": Way(channels_last=True),
    "relaxed_channels_last_fast_ops": Way(channels_last=True, fast_ops=True),
    "sampled": Way(sampled=True),
    "sampled_channels_last": Way(sampled=True, channels_last=True),
    "sampled_channels_last_fast_ops": Way(sampled=True, channels_last=True, fast_ops=True),
    PRODUCT: Way(product=True),
    "product_as_planned": Way(product=True, choice_every=4),
    "product_two_samples": Way(product=True, num_arch_samples=2),
}
# Slower and faster, one change at a time. The first three multiply to the whole, up to medians; then what the rest is
# made of; then the first two in the other order.
SPLIT: Final[Mapping[str, tuple[str, str]]] = {
    "layout": (CLASSIC, "relaxed_channels_last"),
    "sampling": ("relaxed_channels_last", "sampled_channels_last"),
    "rest": ("sampled_channels_last", PRODUCT),
    "rest_fast_ops": ("sampled_channels_last", "sampled_channels_last_fast_ops"),
    "rest_forward_only_choices": ("sampled_channels_last_fast_ops", PRODUCT),
    "sampling_before_layout": (CLASSIC, "sampled"),
    "layout_after_sampling": ("sampled", "sampled_channels_last"),
}
GRID: Final[tuple[tuple[str, int, int], ...]] = (  # space, side, batch
    ("nas_bench_201", 16, 64),
    ("nas_bench_201", 32, 32),
    ("nas_bench_201", 32, 64),
    ("darts", 16, 64),
    ("darts", 32, 32),
    ("mobile", 32, 32),
    ("mobile", 32, 64),
)
MODES: Final[Mapping[str, Way]] = {"sampled": WAYS[PRODUCT], "relaxed": WAYS["relaxed_channels_last"]}
BATCH: Final = 32


def main() -> int:
    """Measure, write the results, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--least-s", type=float, default=4.0, help="of each turn, after its first step")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cells", type=int, default=8, help="of the reference's supernet")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(job_of(json.loads(options.one)))))
        return 0
    machine, started_s = describe(), time.monotonic()
    macro = macro_of("darts", 32, num_channels=16, num_cells=options.cells)
    found, raw = {}, {}
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):

        def turn(space: str, macro: Macro, batch: int, way: Way, device: str = device) -> Measured:
            settings = {"device": device, "threads": options.threads, "least_s": options.least_s}
            job = Job(space=space, macro=macro, batch=batch, way=way, **settings)
            return Measured(**call("--one", json.dumps(dataclasses.asdict(job))))

        rounds = measure_rounds(lambda way: turn("darts", macro, BATCH, way), options.rounds)
        grid = [
            {"space": space, "side": side, "batch": batch, "mode": mode}
            | row([turn(space, macro_of(space, side), batch, way)])
            for space, side, batch in GRID
            for mode, way in MODES.items()
        ]
        found[device] = {**summarize(rounds), "grid": grid}
        raw[device] = [{name: dataclasses.asdict(measured) for name, measured in one.items()} for one in rounds]
    results = {
        "benchmark": "step",
        "reference": f"darts, 16 channels, {options.cells} cells, 32x32, batch {BATCH}",
        "threads": options.threads,
        **found["cpu"],
        "gpu": found.get("cuda", "not run"),
        "total_s": round(time.monotonic() - started_s),
        **machine,
    }
    write("step", results, {"rounds": raw})
    return 0


def job_of(document: dict[str, object]) -> Job:
    """Return the job that its JSON form describes."""
    nested = {"macro": Macro, "way": Way}
    return Job(**{key: nested[key](**value) if key in nested else value for key, value in document.items()})


def call(*arguments: str) -> dict[str, object]:
    """Return what this command prints when called for one turn, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.search.step", *arguments]
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_rounds(turn: Callable[[Way], Measured], num_rounds: int) -> list[dict[str, Measured]]:
    """Return what each way measured in each round; every other round goes through the ways backwards."""
    rounds = []
    for number in range(num_rounds):
        names = list(WAYS) if number % 2 == 0 else list(reversed(WAYS))
        rounds.append({name: turn(WAYS[name]) for name in names})
        speeds = ", ".join(f"{name} {speed(rounds[-1][name]):.1f}" for name in WAYS)
        print(f"round {number}, images/s: {speeds}", flush=True)
    return rounds


def summarize(rounds: Sequence[Mapping[str, Measured]]) -> dict[str, object]:
    """Return speeds and peak memory of each way, and the ratios between them."""
    return {
        "ways": {name: row([one[name] for one in rounds]) for name in rounds[0]},
        "ratio_to_classic": ratio(rounds, CLASSIC, PRODUCT),
        "ratio_to_classic_as_planned": ratio(rounds, CLASSIC, "product_as_planned"),
        "ratio_to_classic_two_samples": ratio(rounds, CLASSIC, "product_two_samples"),
        "ratio_to_relaxed_channels_last": ratio(rounds, "relaxed_channels_last", PRODUCT),
        "ratio_to_relaxed_channels_last_fast_ops": ratio(rounds, "relaxed_channels_last_fast_ops", PRODUCT),
        "ratio_to_classic_by_cpu_seconds": ratio(rounds, CLASSIC, PRODUCT, of=cpu_speed),
        "split": {part: ratio(rounds, *pair) for part, pair in SPLIT.items()},
    }


def row(turns: Sequence[Measured]) -> dict[str, object]:
    """Return the median speed of some turns, their number of steps, and the most memory of any, idle and at most."""
    device_bytes = max(turn.peak_device_bytes for turn in turns)
    return {
        "images_per_s": round(statistics.median(speed(turn) for turn in turns), 1),
        "steps": sum(turn.num_steps for turn in turns),
        "peak_mb": round(max(turn.peak_bytes for turn in turns) / 1e6),
        "idle_mb": round(max(turn.idle_bytes for turn in turns) / 1e6),
        **({"peak_device_mb": round(device_bytes / 1e6)} if device_bytes else {}),
    }


def speed(turn: Measured) -> float:
    """Return images a second."""
    return turn.num_images / turn.wall_s


def cpu_speed(turn: Measured) -> float:
    """Return images for each second of CPU, of all threads."""
    return turn.num_images / turn.cpu_s


def ratio(
    rounds: Sequence[Mapping[str, Measured]], slow: str, fast: str, *, of: Callable[[Measured], float] = speed
) -> dict[str, float]:
    """Return how many times faster one way is than another in the same round: median, least and largest."""
    ratios = [of(one[fast]) / of(one[slow]) for one in rounds]
    named = {"median": statistics.median(ratios), "least": min(ratios), "largest": max(ratios)}
    return {name: round(value, 2) for name, value in named.items()}


if __name__ == "__main__":
    sys.exit(main())
