"""One run of an arm in a process of its own: reads a job from standard input, writes the decision.

usage: python -m benchmarks.nas_bench_201.one DECISION < JOB
"""

import sys
import time
from pathlib import Path

import torch

from benchmarks.nas_bench_201.arms import ARMS
from benchmarks.nas_bench_201.cells import costs
from benchmarks.nas_bench_201.images import load_task
from benchmarks.nas_bench_201.job import Decision, Job, clock_of
from search_spaces.errors import ArchPriorError, lookup
from workers.training.budget import Budget


def main() -> int:
    """Run the job; 1 with a message where it cannot."""
    path = Path(sys.argv[1])
    try:
        decision = decide(Job.model_validate_json(sys.stdin.read()))
    except ArchPriorError as error:
        print(error, file=sys.stderr)
        return 1
    partial = path.with_suffix(".partial")
    partial.write_text(decision.model_dump_json(indent=1) + "\n")
    partial.replace(path)
    return 0


def decide(job: Job) -> Decision:
    """Return an arm's decision; its seconds begin when the images are in memory and the cells' costs are counted."""
    torch.set_num_threads(job.threads)
    arm = lookup(ARMS, job.arm, kind="arm")
    data = load_task(job.images, job.seed)
    costs()
    budget, wall, cpu_s = Budget(job.seconds, clock_of(job)), Budget(job.seconds), time.process_time()
    choice = arm(job, data, budget)
    return Decision(
        choice=choice,
        used_s=round(budget.elapsed_s, 2),
        wall_s=round(wall.elapsed_s, 2),
        cpu_s=round(time.process_time() - cpu_s, 2),
    )


if __name__ == "__main__":
    sys.exit(main())
