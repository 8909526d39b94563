"""What Ray costs a meta-run: parameter actor and workers against bare loops that take the same steps.

Everything lives at once and takes turns, block of steps by block of steps: a bare process, one worker, two bare
processes at the same time, two workers, two workers asynchronously. So the machine's moods hit all alike, and each
ratio compares the same slots of the same run (synchronous: at the same prior, bit for bit, which is checked at the
end). Blocks lie between two versions: nothing is measured of start-up, checkpoints and judging. The first block, in
which processes warm up, does not count.

usage: make bench-meta, or python -m benchmarks.meta_runs.meta [--rounds N] [--steps-per-round N] [--num-slots N]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.machine import ROOT, describe, local_ray, write
from benchmarks.meta_runs.meta_blocks import Distributed, hash_of, make_classes
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.loop import meta_train
from workers.meta.learning.slot import part_of

LENGTHS: Final = ("num_steps", "warmup_steps", "joint_steps", "evaluate_every", "checkpoint_every")
TARGET: Final = 0.95
# Each against what does the same without Ray.
RUNS: Final = {"one_worker": "bare", "two_workers": "two_bare", "two_workers_asynchronous": "two_bare"}
# That Ray gives its workers: what else runs on the machine must not tell the two apart.
RAY_NICENESS: Final = 15


def main() -> int:
    """Measure, write the results, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps-per-round", type=int, default=1)
    parser.add_argument("--num-slots", type=int, default=32)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    config = make_config(options.rounds, options.steps_per_round, options.num_slots, options.resolution)
    if options.bare:
        run_bare(config, options.steps_per_round)
        return 0
    torch.set_num_threads(1)
    about = describe()
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="archprior-bench-")))
        # One of them alone, two of them at once.
        bare = [ends.enter_context(Bare(sys.argv[1:])) for _ in range(3)]
        ends.enter_context(local_ray(num_cpus=8, object_store_bytes=1 << 30))
        steps = options.steps_per_round
        twice = {name: 2 * getattr(config, name) for name in LENGTHS}
        free = config.model_copy(update={"mode": "asynchronous", **twice})
        runs = {
            "one_worker": Distributed(config, folder / "one", num_workers=1, num_steps=steps),
            "two_workers": Distributed(config, folder / "two", num_workers=2, num_steps=steps),
            "two_workers_asynchronous": Distributed(
                free, folder / "free", num_workers=2, num_steps=steps, lead_in=steps
            ),
        }
        for run in runs.values():
            ends.enter_context(run)
        for process in bare:
            process.ready()
        rounds = []
        for number in range(options.rounds + 1):
            arms: list[tuple[str, Callable[[], object]]] = [
                ("bare", partial(blocks, bare[:1])),
                ("one_worker", runs["one_worker"].block),
                ("two_bare", partial(blocks, bare[1:])),
                ("two_workers", runs["two_workers"].block),
            ]
            # Every other round the other way about: a machine that slows down is in nobody's favour.
            found: dict[str, Any] = {name: take() for name, take in (arms if number % 2 else reversed(arms))}
            found |= {
                "two_workers_asynchronous": runs["two_workers_asynchronous"].block(),
                "part": part_of(config, number * steps),
            }
            print(f"round {number}: {json.dumps(found)}", file=sys.stderr, flush=True)
            rounds.append(found)
            # Asynchronous workers finish what they hold, which must not slow down what comes next.
            seconds = float(str(found["two_workers_asynchronous"]["seconds"]))
            time.sleep(4 * seconds / options.num_slots)
        hashes = [process.end() for process in bare]
        same = {runs[name].end() for name in ("one_worker", "two_workers")} == set(hashes)
        waits = {name: round(run.watch.data_wait, 4) for name, run in runs.items()}
        counters = {name: run.watch.counters.model_dump(exclude_defaults=True) for name, run in runs.items()}
    results = summarize(rounds[1:], options.steps_per_round * options.num_slots)
    results |= {"same_prior": same, "data_wait": waits}
    write("meta", results, {**about, "config": config.model_dump(mode="json"), "counters": counters, "rounds": rounds})
    return 0


def make_config(rounds: int, steps_per_round: int, num_slots: int, resolution: int) -> MetaConfig:
    """Return a run of the service's defaults whose steps have several slots, all three parts in their usual shares."""
    num_steps = (rounds + 1) * steps_per_round
    return MetaConfig.model_validate(
        {
            "num_steps": num_steps,
            "joint_steps": round(0.85 * num_steps),  # so that the third part fills more than one round
            "num_slots": num_slots,
            "resolutions": (resolution,),
            "lr_rise_steps": 4,
            "evaluate_every": num_steps,
            "checkpoint_every": num_steps,
        }
    )


def run_bare(config: MetaConfig, steps_per_round: int) -> None:
    """Take a run's steps in this process: a block for each line of standard input; say how many seconds it took."""
    torch.set_num_threads(1)
    os.nice(RAY_NICENESS)
    classes = make_classes(max(config.resolutions))
    began_s = began_cpu_s = 0.0

    def say(what: dict[str, object]) -> None:
        nonlocal began_s, began_cpu_s
        print(json.dumps(what), flush=True)
        sys.stdin.readline()
        began_s, began_cpu_s = time.perf_counter(), time.process_time()

    def on_step(step: int) -> None:
        if (step + 1) % steps_per_round == 0:
            say({"seconds": time.perf_counter() - began_s, "cpu_s": time.process_time() - began_cpu_s})

    say({"ready": True})
    with tempfile.TemporaryDirectory(prefix="archprior-bench-") as out:
        state = meta_train(config, classes, None, Path(out), on_step=lambda log: on_step(log.step))
    print(json.dumps({"hash": hash_of(state.prior_with_heads.to_arrays())}), flush=True)


class Bare:
    """A bare loop in a process of its own.

    Args:
        flags: Of this command, for the same run.
    """

    def __init__(self, flags: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.meta_runs.meta", "--bare", *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> "Bare":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ready(self) -> None:
        """Wait until it is up."""
        self._said()

    def begin(self) -> None:
        """Have it take a block of steps."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def took(self) -> dict[str, float]:
        """Return the seconds of the block, and its CPU seconds."""
        said = self._said()
        return {name: float(str(said[name])) for name in ("seconds", "cpu_s")}

    def end(self) -> str:
        """Return the hash of the prior after the last step."""
        self.begin()
        return str(self._said()["hash"])

    def _said(self) -> dict[str, object]:
        assert self._process.stdout is not None
        said: dict[str, object] = json.loads(self._process.stdout.readline())
        return said


def blocks(processes: Sequence[Bare]) -> list[dict[str, float]]:
    """Return what the next block of several processes takes, all at once."""
    for process in processes:
        process.begin()
    return [process.took() for process in processes]


def summarize(rounds: Sequence[dict[str, Any]], num_slots: int) -> dict[str, object]:
    """Return ratios of speeds: medians over the rounds, with the quartiles, and the slots a second behind them.

    Args:
        rounds: As measured.
        num_slots: Of each block.
    """
    speeds = {
        "bare": [summed_speed(found["bare"]) for found in rounds],
        "two_bare": [summed_speed(found["two_bare"]) for found in rounds],
        **{name: [1 / found[name]["seconds"] for found in rounds] for name in RUNS},
    }
    ratios = {
        name: [run / bare for run, bare in zip(speeds[name], speeds[against], strict=True)]
        for name, against in RUNS.items()
    }
    synchronous = ("one_worker", "two_workers")
    roles = sorted({role for found in rounds for name in synchronous for role in found[name]["cpu_s"]})
    cpu_ms = {
        name: {role: mean_ms([found[name]["cpu_s"].get(role, 0.0) for found in rounds], num_slots) for role in roles}
        for name in synchronous
    }
    return {
        "benchmark": "meta",
        **{f"efficiency_{name}": round(statistics.median(values), 4) for name, values in ratios.items()},
        "quartiles": {name: quartiles(values) for name, values in ratios.items()},
        "target": TARGET,
        "slots_per_s": {name: round(num_slots * statistics.median(values), 3) for name, values in speeds.items()},
        # Where the time goes: workers that do not compute a slot wait for the next version, or for their next slot.
        "busy": {name: round(statistics.fmean(found[name]["busy"] for found in rounds), 4) for name in RUNS},
        "cpu_ms_per_slot": {
            "bare": mean_ms([found["bare"][0]["cpu_s"] for found in rounds], num_slots),
            "two_bare": mean_ms([part["cpu_s"] for found in rounds for part in found["two_bare"]], num_slots),
            **cpu_ms,
        },
        "num_rounds": len(rounds),
        "slots_per_round": num_slots,
    }


def summed_speed(bare: Sequence[dict[str, float]]) -> float:
    """Return the blocks a second of bare processes together."""
    return sum(1 / found["seconds"] for found in bare)


def mean_ms(seconds: Sequence[float], num_slots: int) -> float:
    """Return the mean of blocks, for each slot."""
    return round(1000 * statistics.fmean(seconds) / num_slots, 2)


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the first and the third."""
    if len(values) < 2:
        return [round(value, 4) for value in values]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return [round(first, 4), round(third, 4)]


if __name__ == "__main__":
    sys.exit(main())
