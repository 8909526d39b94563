"""Requests a second of the API, and how long each takes, with 1 and 100 clients and 100,000 records.

The service runs in a process of its own, on SQLite, with a reconciler that has work: first with a fake in the place of
Ray, then with a local Ray, whose one job trains on the same machine meanwhile. The clients are connections that stay
open, in one process: all share the machine. `--clients`, `--seconds` (of each measurement), `--records` and `--ray`
make it shorter.
"""

import argparse
import asyncio
import hashlib
import random
import secrets
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
from sqlalchemy import func, insert, select

from benchmarks.machine import describe, write
from benchmarks.recovery.real_ray import halves
from benchmarks.service.fakes import FakeCluster, serving
from service.app import create_app
from service.examples import EXAMPLES
from service.records.database import Database
from service.records.datasets import DatasetRecords
from service.records.model import LOCAL_OWNER
from service.records.tables import AdaptationRow
from service.schemas import AdaptationView, DatasetView
from service.settings import Settings
from workers.contracts.adaptations import AdaptationRequest
from workers.store import layout
from workers.store.open import open_store

NUM_WAITING = 1000
NUM_PER_INSERT = 10_000
SECONDS_BETWEEN = 0.05  # of the creation of two records
READY_TIMEOUT_S = 180.0
GOOD = {"200", "202", "304"}
LONG_BUDGET_S = 86_400
RAYS = {"fake": "a fake that takes every job", "real": "a local Ray with 2 CPUs, whose one job trains all the time"}
# With a real Ray, of the operations.
WITH_RAY = ("status", "status_waiting", "list", "create")
Requests = Iterator[bytes]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, nargs="+", default=(1, 100))
    parser.add_argument("--ray", choices=tuple(RAYS), nargs="+", default=tuple(RAYS))
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        _serve(options.serve, options.ray[0])
        return
    machine = describe()
    results = {ray: _of_ray(ray, options.records, options.clients, options.seconds) for ray in options.ray}
    how = {"seconds": options.seconds, "ray": {ray: RAYS[ray] for ray in options.ray}, **machine}
    write("api", {"records": options.records, **results}, how)


def _of_ray(ray: str, num_records: int, clients: Sequence[int], seconds: float) -> dict[str, object]:
    """Return what was measured with that Ray, and the service's peak of memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        dataset_id, ids = _fill(Path(folder), num_records)
        with _service(Path(folder), ray) as (url, pid):
            requests = {
                name: {
                    str(num_clients): asyncio.run(_measured(url, make, num_clients, seconds)) for num_clients in clients
                }
                for name, make in _operations(url, dataset_id, ids).items()
                if ray == "fake" or name in WITH_RAY
            }
            return {"requests": requests, "service_peak_mb": _peak_mb(pid)}


def _serve(data_dir: Path, ray: str) -> None:
    """Serve until standard input ends; the address is the first line of what is printed."""
    settings = Settings(data_dir=data_dir, log_level="ERROR", ray_num_cpus=2)
    app = create_app(settings, cluster=lambda _: FakeCluster()) if ray == "fake" else create_app(settings)
    with serving(app) as url:
        _await_ready(url)
        print(url, flush=True)
        sys.stdin.read()


def _await_ready(url: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not httpx.get(f"{url}/readyz", timeout=60, trust_env=False).is_success:
        if time.monotonic() > deadline:
            raise TimeoutError("the service is not ready")
        time.sleep(0.5)


@contextmanager
def _service(data_dir: Path, ray: str) -> Iterator[tuple[str, int]]:
    """Yield the address and the process id of a service on a folder."""
    command = [sys.executable, "-m", "benchmarks.service.api", "--serve", str(data_dir), "--ray", ray]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes to the service")
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.stdin.close()


def _fill(data_dir: Path, num_records: int) -> tuple[str, dict[str, Sequence[str]]]:
    """Make the records; return the dataset's id, and the adaptations' by state, oldest first."""
    view = next(one for one in EXAMPLES if isinstance(one, AdaptationView))
    database = Database(f"sqlite:///{data_dir / 'records.sqlite3'}")
    database.migrate()
    report = next(one.report for one in EXAMPLES if isinstance(one, DatasetView))
    if report is None:
        raise ValueError("the example of a dataset has no report")
    archive = halves()
    sha256 = hashlib.sha256(archive).hexdigest()
    open_store(str(data_dir / "objects"), create=True).put_bytes(layout.dataset_archive(sha256), archive)
    dataset, _ = DatasetRecords(database).add(
        name="pets", sha256=sha256, num_bytes=len(archive), report=report, owner=LOCAL_OWNER
    )
    request = AdaptationRequest(
        dataset_id=dataset.id, prior="none", search="supernet", budget_s=LONG_BUDGET_S
    ).model_dump(mode="json")
    result = view.result.model_dump(mode="json") if view.result else None
    artifacts = [one.model_dump(mode="json", exclude={"href"}) for one in view.artifacts] * 8
    ids: dict[str, list[str]] = {"SUCCEEDED": [], "QUEUED": []}
    first_s = time.time() - num_records * SECONDS_BETWEEN
    rows = []
    for number in range(num_records):
        state = "SUCCEEDED" if number < num_records - NUM_WAITING else "QUEUED"
        finished = state == "SUCCEEDED"
        at = first_s + number * SECONDS_BETWEEN
        ids[state].append(f"ad-{secrets.token_hex(6)}")
        rows.append(
            {
                "id": ids[state][-1],
                "owner": LOCAL_OWNER,
                "attempt": 1,
                "state": state,
                "request": request,
                "dataset_id": dataset.id,
                "dataset_sha256": dataset.sha256,
                "spent_s": 0.0,
                "arrival": number + 1,
                "created_at": at,
                "started_at": at if finished else None,
                "finished_at": at + 60 if finished else None,
                "result": result if finished else None,
                "artifacts": artifacts if finished else None,
            }
        )
        if len(rows) == NUM_PER_INSERT or number == num_records - 1:
            with database.transaction() as session:
                session.execute(insert(AdaptationRow), rows)
            rows = []
    with database.transaction() as session:
        if session.scalar(select(func.count()).select_from(AdaptationRow)) != num_records:
            raise RuntimeError("the records were not made")
    database.close()
    return dataset.id, {state: tuple(of_state) for state, of_state in ids.items()}


def _operations(url: str, dataset_id: str, ids: dict[str, Sequence[str]]) -> dict[str, Callable[[], Requests]]:
    """Return what is asked, by name: each a function to an endless iterator of requests."""
    draw = random.Random(0)
    known = ids["SUCCEEDED"][0]
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        etag = client.get(f"/v1/adaptations/{known}").raise_for_status().headers["ETag"]
        cursor = client.get("/v1/adaptations", params={"limit": 100}).raise_for_status().json()["next_cursor"]

    def repeated(make: Callable[[], bytes]) -> Callable[[], Requests]:
        return lambda: iter(make, b"")

    def create() -> bytes:
        body = b'{"dataset_id": "%s", "prior": "none"}' % dataset_id.encode()
        return _request("POST", "/v1/adaptations", {"Idempotency-Key": str(uuid.uuid4())}, body)

    return {
        "status": repeated(lambda: _request("GET", f"/v1/adaptations/{draw.choice(ids['SUCCEEDED'])}")),
        "status_waiting": repeated(lambda: _request("GET", f"/v1/adaptations/{draw.choice(ids['QUEUED'])}")),
        "status_unchanged": repeated(lambda: _request("GET", f"/v1/adaptations/{known}", {"If-None-Match": etag})),
        "list": repeated(lambda: _request("GET", f"/v1/adaptations?limit=20&cursor={cursor}")),
        "list_succeeded": repeated(lambda: _request("GET", "/v1/adaptations?state=SUCCEEDED&limit=20")),
        "list_waiting": repeated(lambda: _request("GET", "/v1/adaptations?state=QUEUED&limit=20")),
        "create": repeated(create),
    }


def _request(method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _measured(url: str, make: Callable[[], Requests], num_clients: int, seconds: float) -> dict[str, object]:
    """Return what so many clients see that each ask again as soon as they are answered."""
    address = urlsplit(url)
    latencies_s: list[float] = []
    statuses: Counter[str] = Counter()
    began_s = time.perf_counter()

    async def ask() -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for request in make():
            if time.perf_counter() - began_s >= seconds:
                break
            asked_s = time.perf_counter()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            _, found, rest = head.partition(b"content-length: ")
            if found:
                await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
            latencies_s.append(time.perf_counter() - asked_s)
            statuses[head[9:12].decode()] += 1
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(ask() for _ in range(num_clients)))
    took_s = time.perf_counter() - began_s
    if not statuses.keys() <= GOOD:
        raise RuntimeError(f"a refusal is no measurement: {dict(statuses)}")
    p50_s, p99_s = np.percentile(latencies_s, (50, 99))
    return {
        "requests_per_s": round(len(latencies_s) / took_s, 1),
        "p50_ms": round(1e3 * float(p50_s), 2),
        "p99_ms": round(1e3 * float(p99_s), 2),
        "statuses": dict(statuses),
    }


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)


if __name__ == "__main__":
    main()
