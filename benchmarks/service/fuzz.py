"""Requests that nobody should send, for a long time: no answer may be a 5xx, and nothing may be left behind.

Schemathesis invents requests from the service's own document, alone and in sequences; `malformed.py` breaks archives,
each of which is posted. The service is the real one, in this process, with a fake in the place of Ray.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from benchmarks.machine import describe, write
from benchmarks.service.fakes import FakeCluster, serving
from benchmarks.service.malformed import archive, files, kinds
from service.app import create_app
from service.settings import Settings

CHECKS: Final = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# The readiness may well be a 503, streams of events do not end, and Schemathesis 4.32 takes the `prefixItems` of a
# search space's decisions for an error of the document.
LEFT_OUT: Final = ("get_readiness", "list_meta_run_events", "get_search_space")
ROUND_S: Final = 240.0
NUM_POSTERS: Final = 2
TIMEOUT_S: Final = 120.0


@dataclass(kw_only=True)
class Outcome:
    """What came of many requests: how many of each status, and what should not have been."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def post_archives(url: str, archives: Iterable[tuple[str, bytes]]) -> Outcome:
    """Post archives as datasets, two at a time; each answer must be a refusal, or a dataset."""
    outcome = Outcome()
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:

        def post(kind: tuple[str, bytes]) -> tuple[str, int, str]:
            name, data = kind
            answer = client.post("/v1/datasets", files={"dataset": ("broken.zip", data, "application/zip")})
            return name, answer.status_code, answer.text[:200]

        with ThreadPoolExecutor(NUM_POSTERS) as pool:
            for name, status, text in pool.map(post, archives):
                outcome.statuses[status] += 1
                if status not in {200, 201, 413, 422}:
                    outcome.failures.append(f"{name}: {status} {text}")
    return outcome


def invent_requests(url: str, *, seconds: float, seed: int, folder: Path) -> str:
    """Send what Schemathesis invents for so many seconds; return what it says of failures, empty where there are none.

    Args:
        url: Of the service.
        seconds: For how long.
        seed: Of what it invents.
        folder: Where it may write.
    """
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run", f"{url}/openapi.json"),
        *("--checks", CHECKS, "--max-time", str(math.ceil(seconds)), "--seed", str(seed), "--max-examples", "1000000"),
        *(part for name in LEFT_OUT for part in ("--exclude-operation-id", name)),
        *("--no-shrink", "--generation-database", ":memory:", "--suppress-health-check", "all", "--warnings", "off"),
    ]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return "" if found.returncode == 0 else found.stdout[-8000:] + found.stderr[-2000:]


def left_behind(data_dir: Path) -> list[str]:
    """Return what lies in the folder of uploads; nothing does when no request is under way."""
    return sorted(str(path.relative_to(data_dir)) for path in (data_dir / "uploads").rglob("*"))


def resources() -> dict[str, float]:
    """Return this process's memory in MB, its open files and its threads."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory_mb": round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
    }


def main() -> None:
    """Fuzz in rounds, print, write; ends with status 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    machine, ends_s = describe(), time.monotonic() + options.seconds
    archives, problems, over_time = Outcome(), [], []
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        settings = Settings(data_dir=data_dir, log_level="ERROR", max_upload_bytes=80_000_000, quota_arriving=1_000_000)
        with serving(create_app(settings, cluster=lambda _: FakeCluster())) as url:
            post_archives(url, [("good", archive(files()))])
            seed = options.seed
            while (rest_s := ends_s - time.monotonic()) > 0:
                found = post_archives(url, kinds(seed))
                archives.statuses += found.statuses
                archives.failures += found.failures
                problem = invent_requests(url, seconds=min(ROUND_S, max(rest_s, 10.0)), seed=seed, folder=Path(folder))
                problems += [problem] if problem else []
                over_time.append(resources())
                seed += 1
            left = left_behind(data_dir)
    results = {
        "seconds": options.seconds,
        "rounds": len(over_time),
        "kinds_of_archives": len(list(kinds())),
        "archives": {str(status): number for status, number in sorted(archives.statuses.items())},
        "failed_archives": len(archives.failures),
        "failed_rounds_of_requests": len(problems),
        "left_behind": len(left),
        "resources_first": over_time[0],
        "resources_last": over_time[-1],
    }
    raw = {"failures": [*archives.failures, *problems, *left], "resources": over_time, **machine}
    write("fuzz", results, raw)
    if raw["failures"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
