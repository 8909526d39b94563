"""A whole meta-run on this machine: two workers teach glyphs to a prior, it is promoted, digits are adapted with it.

Starts a service of its own in a temporary folder, does with the command line what a user would do, and ends it all.

usage: python examples/meta_demo.py GLYPHS.zip DIGITS.zip OUT_FOLDER
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from service.cli.embedded import data_folder, embedded_service
from service.cli.interrupts import interruptible
from service.client import Client
from workers.priors.registry import DEFAULTS

BUDGET_S = 120
PARENT = DEFAULTS["nas_bench_201"]
# Two tasks a step, one for each worker. The number of steps is out of reach: the budget ends the run.
CONFIG = {
    "num_steps": 2000, "warmup_steps": 40, "joint_steps": 160, "num_slots": 2, "resolutions": [16], "joint_batch": 64,
    "num_support": 64, "num_query": 64, "num_inner_steps": 2, "max_ways": 10, "lr": 0.05, "lr_rise_steps": 20,
    "flip": False, "evaluate_every": 150, "checkpoint_every": 100,
}  # fmt: skip


def main() -> None:
    """Run the demo; exit with 1 where the adaptation did not use the prior."""
    glyphs, digits, out = map(Path, sys.argv[1:])
    with interruptible(), data_folder(None) as folder:
        os.environ["ARCHPRIOR_CACHE_DIR"] = str(folder / "cache")  # of decoded images: it goes with the folder
        print("Starting a service in a temporary folder.", flush=True)
        with embedded_service(folder, lambda _: None) as url, Client(url) as client:
            say("Letters and digits of many fonts: meta-runs may learn from them.")
            archprior(url, "datasets", "add", glyphs, "--name", "glyphs", "--meta-use", "--terms", "free font licenses")
            (dataset,) = client.datasets().items

            say(f"Two workers teach them to the bundled prior for {BUDGET_S} seconds; a fifth of the classes judges.")
            settings = [part for name, value in CONFIG.items() for part in ("--set", f"{name}={json.dumps(value)}")]
            archprior(
                url, "meta-runs", "start", "--dataset", dataset.id, "--parent", PARENT, "--prior-id", "glyphs-v1",
                "--max-workers", "2", "--cpus-per-worker", "1", "--budget-s", str(BUDGET_S), "--num-tasks", "10",
                *settings, "--follow",
            )  # fmt: skip
            (run,) = client.meta_runs().items
            if run.result is None or run.result.prior_id is None:
                sys.exit(f"meta-run {run.id} made no prior")
            prior_id = run.result.prior_id

            say("From now on it is what an adaptation gets that names no prior.")
            archprior(url, "priors", "promote", prior_id)
            archprior(url, "priors")

            say("Handwritten digits of 8x8 pixels are adapted to, without a word about priors.")
            archprior(url, "adapt", digits, "--name", "digits", "--budget-s", "30", "--out", out)
            used = json.loads((out / "metrics.json").read_text())["prior"]
    if used != prior_id:
        sys.exit(f"the adaptation used prior {used}, not the promoted {prior_id}")
    say(f"The adaptation used the promoted prior: {used}. Its network lies in {out}.")


def say(text: str) -> None:
    """Tell what comes next."""
    print(f"\n{text}", flush=True)


def archprior(url: str, *arguments: object) -> None:
    """Run a command of `archprior` against the service, its output going where ours goes; end with it if it fails."""
    words = [*map(str, arguments), "--server", url]
    print(f"$ archprior {shlex.join(words)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "service.cli.main", *words], check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)  # all that was started has ended
