"""What a minute buys on CIFAR-10: the bundled prior adapted, against its mode, a random cell, and no prior at all.

Without a prior the space's published cell is trained, or one is searched in the supernet from random weights.

One arm more keeps the images at their 32 pixels, where all others shrink them to what the seconds afford.

Every arm is the adaptation that the service runs, from staging to manifest, with the same budget, one at a time on an
otherwise idle machine; arms take turns, so that the machine's moods hit all alike. Seeds are paired: seed s has the
same split and order of images in every arm. Resumes where it was stopped.

usage: python -m benchmarks.adapt [--seeds N] [--budget-s S] [--threads N]
"""

import argparse
import hashlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

from scipy import stats

from workers.priors.registry import DEFAULTS
from workers.training.threads import WAITING

ROOT: Final = Path(__file__).parents[1]
DATA: Final = Path(os.environ.get("ARCHPRIOR_SHARED_DATA", ROOT.parent / "shared" / "data"))
WORK: Final = ROOT / "build" / "bench-adapt"
RESULTS: Final = ROOT / "benchmarks" / "results" / "adapt.json"
PRIOR: Final = DEFAULTS["nas_bench_201"]
ARMS: Final[dict[str, dict[str, object]]] = {
    "adapt": {"prior": PRIOR, "search": "adapt"},
    "prior_mode": {"prior": PRIOR, "search": "prior_mode"},
    "random": {"prior": PRIOR, "search": "random"},
    "no_prior": {"prior": "none", "search": "adapt"},
    "searched_from_scratch": {"prior": "none", "search": "supernet"},
    "adapt_at_32": {"prior": PRIOR, "search": "adapt", "resolution": 32},
}


def main() -> int:
    """Run what is missing, write the results, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget-s", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--one", nargs=2, metavar=("ARM", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(options.one[0], int(options.one[1]), options.budget_s, options.threads)
        return 0
    if not (DATA / "cifar10_train.npz").exists():
        print(f"not run: {DATA} has no cifar10_train.npz; set ARCHPRIOR_SHARED_DATA to the folder that has it")
        return 1
    put_dataset()
    runs: dict[str, list[dict[str, object]]] = {arm: [] for arm in ARMS}
    for seed in range(options.seeds):
        for arm in ARMS:
            path = run_path(arm, seed, options.budget_s, options.threads)
            if not path.exists():
                flags = ["--budget-s", str(options.budget_s), "--threads", str(options.threads)]
                subprocess.run(
                    [sys.executable, "-m", "benchmarks.adapt", "--one", arm, str(seed), *flags],
                    check=True,
                    cwd=ROOT,
                    env={**os.environ, **WAITING},  # as the service's Ray has it
                )
            runs[arm].append(json.loads(path.read_text()))
            print(f"seed {seed} {arm}: {runs[arm][-1]['accuracy']:.4f} in {runs[arm][-1]['total_s']} s", flush=True)
    results = summarize(runs, options.budget_s, options.threads)
    RESULTS.write_text(json.dumps({**results, "runs": runs}, indent=1) + "\n")
    print(json.dumps(results))
    return 0


def run_path(arm: str, seed: int, budget_s: float, threads: int) -> Path:
    """Return where one run's outcome lies: apart for every state of the code and of the prior."""
    digest = hashlib.sha256()
    for path in sorted(path for room in ("search_spaces", "workers") for path in (ROOT / room).rglob("*")):
        if path.suffix in (".py", ".safetensors"):
            digest.update(path.read_bytes())
    return WORK / digest.hexdigest()[:12] / f"{arm}-{seed}-{budget_s:g}-{threads}.json"


def put_dataset() -> None:
    """Write CIFAR-10 as a zip with train and test folders into a folder store, checked as an upload is."""
    from workers.store import layout
    from workers.store.open import open_store
    from workers.tasks.archive import run_check
    from workers.tasks.limits import ArchiveLimits
    from workers.tasks.sources import iterate_files

    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / "cifar10.zip"
    if not path.exists():
        with zipfile.ZipFile(path.with_suffix(".partial"), "w") as archive:
            for part in ("train", "test"):
                for file in iterate_files(DATA / f"cifar10_{part}.npz"):
                    entry = zipfile.ZipInfo(f"{part}/{file.class_name}/{file.name}")
                    archive.writestr(entry, file.data)
        path.with_suffix(".partial").rename(path)
    store = open_store(str(WORK / "objects"), create=True)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if store.size(layout.dataset_report(sha256)) is None:
        report = run_check(path, ArchiveLimits()).report
        store.put_file(layout.dataset_archive(sha256), path)
        store.put_bytes(layout.dataset_report(sha256), report.model_dump_json().encode())
    (WORK / "sha256").write_text(sha256)


def run_one(arm: str, seed: int, budget_s: float, threads: int) -> None:
    """Run one adaptation in this process and keep its outcome."""
    import torch

    from workers.adapt.attempt import run_attempt
    from workers.adapt.sync import Group
    from workers.contracts.adaptations import AdaptationRequest, AttemptRequest
    from workers.contracts.artifacts import Metrics
    from workers.store import layout
    from workers.store.open import open_store

    torch.set_num_threads(threads)
    store = open_store(str(WORK / "objects"))
    sha256 = (WORK / "sha256").read_text()
    adaptation_id = f"{arm}-{seed}"
    attempt = AttemptRequest(
        adaptation_id=adaptation_id,
        attempt=1,
        request=AdaptationRequest.model_validate({**ARMS[arm], "seed": seed, "budget_s": budget_s, "num_workers": 0}),
        dataset_key=layout.dataset_archive(sha256),
        dataset_sha256=sha256,
    )
    key = layout.attempt(adaptation_id, 1)
    store.put_bytes(f"{key}/request.json", attempt.model_dump_json().encode())
    run_attempt(store, key, Group(), torch.device("cpu"))
    metrics = Metrics.model_validate_json(store.get_bytes(f"{key}/metrics.json"))
    outcome = {
        "accuracy": metrics.accuracy,
        "architecture": metrics.architecture,
        "params": metrics.cost.params,
        "macs": metrics.cost.macs,
        "resolution": metrics.resolution,
        "total_s": metrics.timings_s["total"],
        "timings_s": metrics.timings_s,
        "verdict": metrics.verdict,
        "budget_note": metrics.budget_note,
        "num_test": metrics.num_test,
    }
    path = run_path(arm, seed, budget_s, threads)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(outcome, indent=1))


def summarize(runs: dict[str, list[dict[str, object]]], budget_s: float, threads: int) -> dict[str, object]:
    """Return means by arm and paired differences to `adapt`, with 95 % t-intervals over seeds."""
    from workers.adapt.result import versions

    accuracy = {arm: [float(str(run["accuracy"])) for run in outcomes] for arm, outcomes in runs.items()}
    differences = {
        arm: interval([a - b for a, b in zip(accuracy["adapt"], accuracy[arm], strict=True)])
        for arm in ARMS
        if arm != "adapt"
    }
    return {
        "benchmark": "adapt",
        "prior": PRIOR,
        "dataset": "CIFAR-10, JPEG copies (compare with each other, not with published accuracies)",
        "budget_s": budget_s,
        "seeds": len(accuracy["adapt"]),
        "accuracy": {arm: interval(values) for arm, values in accuracy.items()},
        "adapt_minus": differences,
        "largest_total_s": max(float(str(run["total_s"])) for outcomes in runs.values() for run in outcomes),
        "gpu": "not run",
        "machine": {"cpus": os.cpu_count(), "threads": threads, "system": platform.platform(terse=True)},
        "versions": versions(),
    }


def interval(values: list[float]) -> dict[str, float]:
    """Return mean, and the low and high end of Student's 95 % interval of the mean."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return {"mean": round(mean, 4)}
    error = statistics.stdev(values) / math.sqrt(len(values))
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=error) if error else (mean, mean)
    return {"mean": round(mean, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


if __name__ == "__main__":
    sys.exit(main())
