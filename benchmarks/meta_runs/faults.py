"""What faults cost a synchronous meta-run: lost time, and nothing else.

The same small run, as the service's job runs it, on a Ray cluster of four nodes in one process tree (a head without
CPUs, two nodes with work, a spare one): undisturbed before and after, and with each fault in between. The last
checkpoint of each is compared bit for bit with the undisturbed run's: prior and optimizers.

usage: make bench-faults, or python -m benchmarks.meta_runs.faults [--steps N] [--only FAULT ...]
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.machine import describe, write
from benchmarks.meta_runs.fault_nodes import Nodes, cluster, kill
from benchmarks.meta_runs.fault_runs import RESOLUTION, Bench, Fault, Run
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import MetaProgress

KILL_EVERY_S: Final = 20.0


def main() -> int:
    """Run what each fault needs, write the results, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=90)
    parser.add_argument("--only", nargs="*", choices=tuple(FAULTS), default=tuple(FAULTS))
    options = parser.parse_args()
    about = describe()
    config = make_config(options.steps)
    with tempfile.TemporaryDirectory(prefix="archprior-bench-") as folder:
        bench = Bench(Path(folder), config)
        with cluster(Path(folder)) as nodes:
            names = ["undisturbed", *options.only, "undisturbed again"]
            outcomes = {name: bench.run(name, FAULTS.get(name, undisturbed), nodes) for name in names}
    spared = [name for name, outcome in outcomes.items() if name in FAULTS and not outcome.did]
    if spared:
        raise RuntimeError(f"the run was over before the fault struck: {', '.join(spared)}; take more --steps")
    quiet = [outcomes[name] for name in ("undisturbed", "undisturbed again")]
    quiet_s = statistics.fmean(outcome.total_s for outcome in quiet)
    table = [
        {
            "fault": name,
            "lost_s": round(outcome.total_s - quiet_s, 1),
            "recomputed_steps": outcome.recomputed_steps,
            "same_prior": outcome.hash == quiet[0].hash,
        }
        for name, outcome in outcomes.items()
        if name in FAULTS
    ]
    results: dict[str, object] = {
        "benchmark": "faults",
        "all_same": all(outcome.hash == quiet[0].hash for outcome in outcomes.values()),
        "undisturbed_s": [round(outcome.total_s, 1) for outcome in quiet],
        "lost_s": {str(row["fault"]): row["lost_s"] for row in table},
        "table": table,
    }
    runs = {name: outcome.as_dict() for name, outcome in outcomes.items()}
    write("faults", results, {**about, "config": config.model_dump(mode="json"), "runs": runs})
    return 0


def make_config(num_steps: int) -> MetaConfig:
    """Return a small run with all three parts and a checkpoint every tenth step."""
    return MetaConfig.model_validate(
        {
            "num_steps": num_steps,
            "joint_steps": round(0.9 * num_steps),
            "num_slots": 8,
            "resolutions": (RESOLUTION,),
            "lr_rise_steps": 4,
            "evaluate_every": num_steps,
            "checkpoint_every": 10,
        }
    )


def undisturbed(run: Run, nodes: Nodes, progress: MetaProgress) -> bool:  # noqa: ARG001 -- a fault's signature
    """Do nothing."""
    return True


def kill_worker(run: Run, nodes: Nodes, progress: MetaProgress) -> bool:  # noqa: ARG001
    """Kill a worker's process every 20 s."""
    now_s = time.monotonic()
    busy = [worker for worker in progress.workers if worker.state == "busy"]
    if progress.step > 0 and busy and now_s - run.last_s > KILL_EVERY_S:
        run.last_s = now_s
        run.did.append(f"killed {busy[0].id} at step {progress.step}")
        kill(busy[0].pid)
    return False


def crash_node(run: Run, nodes: Nodes, progress: MetaProgress) -> bool:
    """Crash the node of a worker."""
    busy = _due(progress)
    if busy is None:
        return False
    run.did.append(f"crashed the node of {busy[0]} at step {progress.step}")
    nodes.crash_with(busy[1])
    return True


def freeze_node(run: Run, nodes: Nodes, progress: MetaProgress) -> bool:
    """Freeze the node of a worker."""
    busy = _due(progress)
    if busy is None:
        return False
    run.did.append(f"froze the node of {busy[0]} at step {progress.step}")
    nodes.freeze_with(busy[1])
    return True


def kill_server(run: Run, nodes: Nodes, progress: MetaProgress) -> bool:
    """Kill the parameter actor."""
    pid = nodes.server_pid()
    if _due(progress) is None or pid is None:
        return False
    run.did.append(f"killed the parameter actor at step {progress.step}")
    kill(pid)
    return True


def kill_job(run: Run, nodes: Nodes, progress: MetaProgress) -> bool:  # noqa: ARG001
    """Kill the job, and start the next attempt at once."""
    if _due(progress) is None:
        return False
    run.did.append(f"killed the job at step {progress.step}")
    run.kill_and_resume()
    return True


def _due(progress: MetaProgress) -> tuple[str, int] | None:
    """Return a busy worker and its process, once two fifths of the steps are taken: between two checkpoints."""
    busy = [(worker.id, worker.pid) for worker in progress.workers if worker.state == "busy"]
    return busy[0] if busy and progress.step >= 0.4 * progress.num_steps and progress.step % 10 > 3 else None


FAULTS: Final[dict[str, Fault]] = {
    "worker killed every 20 s": kill_worker,
    "node crashed": crash_node,
    "node frozen": freeze_node,
    "parameter actor killed": kill_server,
    "job killed and resumed": kill_job,
}


if __name__ == "__main__":
    sys.exit(main())
