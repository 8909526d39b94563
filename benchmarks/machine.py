"""What a result was measured on, where results lie, and a Ray of a benchmark's own on loopback."""

import json
import logging
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

import ray

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results"
IMAGES: Final = ROOT / "docs" / "images"
LIBRARIES: Final = ("archprior", "torch", "numpy", "ray")
# Set by `make`, before anything is imported that reads them.
VARIABLES: Final = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_AUTH_MODE")


def describe() -> dict[str, object]:
    """Return the machine, the versions, the command and the time, for a file of results."""
    return {
        "machine": {
            "cpus": os.cpu_count(),
            "processor": _processor(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "system": platform.platform(terse=True),
            "load_at_start": round(os.getloadavg()[0], 2),
        },
        "environment": {name: os.environ.get(name) for name in VARIABLES},
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}},
        "command": shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write(name: str, results: dict[str, object], raw: dict[str, object]) -> None:
    """Write `benchmarks/results/NAME.json`; end with the results as one line of JSON."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({**results, **raw}, indent=1) + "\n")
    print(json.dumps(results), flush=True)


@contextmanager
def local_ray(*, num_cpus: int, object_store_bytes: int) -> Iterator[None]:
    """Run a Ray of this process's own on loopback, ended with it; CPUs are only counted."""
    ray.init(
        address="local",
        num_cpus=num_cpus,
        object_store_memory=object_store_bytes,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
