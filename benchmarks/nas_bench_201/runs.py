"""All runs of a benchmark, one after another, each in a process of its own; what is there already is not run again."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.machine import ROOT
from benchmarks.nas_bench_201.arms import ARMS, COUNTING, ELSEWHERE, OURS
from benchmarks.nas_bench_201.cells import Cap
from benchmarks.nas_bench_201.code import digest_of
from benchmarks.nas_bench_201.job import Clock, Decision, Job
from search_spaces.errors import ArchPriorError, lookup
from workers.priors.registry import CARD, TENSORS

SHARED_DATA: Final = "ARCHPRIOR_SHARED_DATA"


class FailedRunError(ArchPriorError):
    """An arm ended without a decision."""

    code = "failed_run"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of an arm at a cap; `name` is its file."""

    job: Job
    cap: Cap
    path: Path

    @property
    def name(self) -> str:
        return f"{self.job.arm} {self.cap.name} seed {self.job.seed}"


def plan_runs(
    arms: Sequence[str],
    caps: Sequence[Cap],
    num_seeds: int,
    *,
    images: Mapping[str, Path],
    prior: Path | None,
    seconds: float,
    threads: int,
    clock: Clock,
    epochs: int,
    work: Path,
) -> list[Run]:
    """Return all runs, a seed after another, so that an early stop leaves whole seeds.

    Args:
        arms: Names.
        caps: On the MACs.
        num_seeds: Of each arm but those that draw nothing.
        images: Folder of images by arm.
        prior: Folder, for our arms.
        seconds: Of each run.
        threads: Of each run.
        clock: Of the seconds.
        epochs: That chosen cells will be trained for.
        work: Where decisions lie.

    Raises:
        UnknownNameError: No such arm.
    """
    runs = []
    for seed in range(num_seeds):
        for cap in caps:
            for arm in arms:
                if arm in COUNTING and seed > 0:
                    continue
                code = lookup(ARMS, arm, kind="arm")
                job = Job(
                    arm=arm,
                    max_macs=cap.max_macs,
                    seed=seed,
                    seconds=seconds,
                    threads=threads,
                    clock=clock,
                    images=images[arm],
                    epochs=epochs,
                    prior=prior if arm in (OURS, ELSEWHERE) else None,
                )
                name = f"{arm}-{cap.percent:g}-{seed}-{key_of(job, digest_of(code))}.json"
                runs.append(Run(job=job, cap=cap, path=work / "decisions" / name))
    return runs


def key_of(job: Job, code: str) -> str:
    """Return a name for all that decides a run's outcome: its job, the prior's files, the code."""
    digest = hashlib.sha256(job.model_dump_json().encode() + code.encode())
    if job.prior is not None:
        for name in (CARD, TENSORS):
            digest.update((job.prior / name).read_bytes())
    return digest.hexdigest()[:12]


def in_process(job: Job, path: Path) -> None:
    """Run a job in a process of its own, which is not told where tables lie.

    Raises:
        FailedRunError: It ended without a decision.
    """
    hidden = {name: value for name, value in os.environ.items() if name != SHARED_DATA}
    environment = {**hidden, "OMP_NUM_THREADS": str(job.threads)}
    command = [sys.executable, "-m", "benchmarks.nas_bench_201.one", str(path)]
    done = subprocess.run(
        command, input=job.model_dump_json(), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        raise FailedRunError(f"arm {job.arm} made no decision", got=done.stderr[-2000:].strip())


def carry_out(runs: Sequence[Run], execute: Callable[[Job, Path], None] = in_process) -> Iterator[tuple[Run, Decision]]:
    """Yield each run with its decision, as it is made or was made before."""
    for run in runs:
        if not run.path.exists():
            run.path.parent.mkdir(parents=True, exist_ok=True)
            execute(run.job, run.path)
        yield run, Decision.from_stored(run.path.read_bytes(), str(run.path))
