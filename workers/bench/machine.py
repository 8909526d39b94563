"""What a result was measured on: the machine, the environment, the versions, the command, the time. Free of torch."""

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

LIBRARIES: Final = ("archprior", "torch", "numpy", "ray")
# Read by libraries when they are imported.
VARIABLES: Final = (
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "OMP_NUM_THREADS",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
    "RAY_AUTH_MODE",
)


def describe(command: str) -> dict[str, object]:
    """Return what a file of results tells of where it was made.

    Args:
        command: That makes it again.
    """
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
        "command": command,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
