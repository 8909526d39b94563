"""The table of recovery: a service is killed at each step of its way, and what it needs is taken away.

`make bench-recovery`: each row is one service on a folder of its own, killed at one point and followed by another,
asked by a client that repeats what was not answered. Jobs lie in a folder (`recovery_service.FolderJobs`); databases,
stores and processes are real.
"""

import io
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import httpx
from PIL import Image

from benchmarks.machine import describe, write
from benchmarks.recovery_job import DEAF, FAILS, FAILS_ONCE
from benchmarks.recovery_service import DOWN, KILLED

PATIENCE_S: Final = 90.0
FINAL: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
AWAY_S: Final = 30.0
LOCKED_S: Final = 20.0
FOR_EVER_S: Final = 1e6


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way in which a service is killed, and how its work is to end all the same."""

    point: str
    when: str
    seed: int = 0
    cancel: bool = False
    state: str = "SUCCEEDED"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of a case.

    Attributes:
        num_adaptations, num_datasets: That there are in the end; the client wanted one of each.
        num_twice: Jobs that were submitted more than once.
        num_left: Jobs that live although nothing waits for them.
    """

    what: str
    wanted: str
    state: str
    attempt: int
    num_adaptations: int
    num_datasets: int
    num_twice: int
    num_left: int
    seconds: float
    ok: bool


CASES: Final = tuple(
    Case(point=point, when=when, **more)
    for points, more in (
        (
            (
                "write the archive",
                "write the report",
                "record the dataset",
                "record the adaptation",
                "write request.json",
                "record RUNNING",
                "submit the job",
                "record SUCCEEDED",
            ),
            {},
        ),
        (("record the new attempt",), {"seed": FAILS_ONCE}),
        (("record FAILED",), {"seed": FAILS, "state": "FAILED"}),
        (
            ("record CANCELLING", "write control.json", "record CANCELLED"),
            {"cancel": True, "state": "CANCELLED"},
        ),
        (("stop the job",), {"cancel": True, "seed": DEAF, "state": "CANCELLED"}),
    )
    for point in points
    for when in ("before", "after")
)


class Services:
    """One service after the other on a folder, and the client that asks whichever there is."""

    def __init__(self, folder: Path, *, job_s: float = 0.5, environment: dict[str, str] | None = None) -> None:
        self.folder, self.jobs = folder, folder / "jobs"
        self._job_s, self._environment = job_s, {**os.environ, "ARCHPRIOR_LOG_LEVEL": "ERROR", **(environment or {})}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=60.0, trust_env=False)
        self.exit_codes: list[int] = []

    def start(self, *kill: str) -> None:
        """Start a service; named are the point at which it is killed, and whether before or after it."""
        options = (str(self.folder / "data"), str(self._port), *kill)
        jobs = ("--jobs", str(self.jobs), "--job-s", str(self._job_s))
        command = [sys.executable, "-m", "benchmarks.recovery_service", *options, *jobs]
        self._process = subprocess.Popen(command, env=self._environment)

    def ask(self, method: str, path: str, **request: object) -> httpx.Response:
        """Return the first answer that is none of trouble; a killed service is followed by another."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = self._http.request(method, path, **request)
                if answer.status_code < 500:
                    return answer
            except httpx.TransportError:
                self._follow()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{method} {path}")
            time.sleep(0.05)

    def adapt(self, *, seed: int = 0) -> str:
        """Return the id of a new adaptation to a dataset that comes along."""
        answer = self.ask(
            "POST",
            "/v1/adaptations",
            headers={"Idempotency-Key": uuid.uuid4().hex},
            data={"prior": "none", "seed": str(seed), "budget_s": "60"},
            files={"dataset": ("shapes.zip", small_zip(), "application/zip")},
        )
        answer.raise_for_status()
        return str(answer.json()["id"])

    def await_state(self, work_id: str, states: frozenset[str]) -> dict[str, object]:
        """Return the view of an adaptation once it is in one of the states, or time is over."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            view: dict[str, object] = self.ask("GET", f"/v1/adaptations/{work_id}").json()
            if view["state"] in states or time.monotonic() > deadline:
                return view
            time.sleep(0.05)

    def row(self, what: str, wanted: str, view: dict[str, object], began: float, *, ok: bool = True) -> Row:
        """Return what came of a case, judged by what is to be one and no more."""
        adaptations, datasets = (
            len(self.ask("GET", f"/v1/{kind}").json()["items"]) for kind in ("adaptations", "datasets")
        )
        submitted = (self.jobs / "submissions").read_text().split()
        num_twice = len(submitted) - len(set(submitted))
        num_left = sum('"RUNNING"' in path.read_text() for path in self.jobs.glob("*.json"))
        sound = (adaptations, datasets, num_twice, num_left) == (1, 1, 0, 0)
        return Row(
            what=what,
            wanted=wanted,
            state=str(view["state"]),
            attempt=int(str(view["attempt"])),
            num_adaptations=adaptations,
            num_datasets=datasets,
            num_twice=num_twice,
            num_left=num_left,
            seconds=round(time.monotonic() - began, 1),
            ok=ok and sound and view["state"] == wanted,
        )

    def end(self) -> None:
        """End the service that there is."""
        self._http.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _follow(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            self.exit_codes.append(self._process.returncode)
            self.start()


def small_zip() -> bytes:
    """Return a dataset of two classes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for number in range(12):
            image = io.BytesIO()
            Image.new("L", (12, 12), 20 * number).save(image, "PNG")
            archive.writestr(zipfile.ZipInfo(f"{'ab'[number % 2]}/{number}.png"), image.getvalue())
    return data.getvalue()


@contextmanager
def services(**options: object) -> Iterator[Services]:
    """Yield services on a new folder, which goes with them."""
    folder = Path(tempfile.mkdtemp(prefix="archprior-recovery-"))
    here = Services(folder, **options)
    try:
        yield here
    finally:
        here.end()
        shutil.rmtree(folder)


def killed(case: Case) -> Row:
    """Return what comes of work whose service is killed once."""
    with services(job_s=FOR_EVER_S if case.cancel else 0.5) as here:
        began = time.monotonic()
        here.start(case.point, case.when)
        work_id = here.adapt(seed=case.seed)
        if case.cancel:
            here.await_state(work_id, frozenset({"RUNNING"}))
            here.ask("POST", f"/v1/adaptations/{work_id}/cancel")
        view = here.await_state(work_id, FINAL)
        here.ask("GET", "/healthz")  # whoever was killed in the last moment has a successor
        died = here.exit_codes == [KILLED]
        return here.row(f"killed {case.when}: {case.point}", case.state, view, began, ok=died)


def sql_locked() -> Row:
    """Return what comes of work while another process keeps the database for longer than a statement waits."""
    with services(job_s=2.0) as here:
        began = time.monotonic()
        here.start()
        work_id = here.adapt()
        here.await_state(work_id, frozenset({"RUNNING"}))
        other = sqlite3.connect(here.folder / "data" / "records.sqlite3", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        time.sleep(LOCKED_S)
        other.execute("ROLLBACK")
        other.close()
        return here.row(f"SQL locked for {LOCKED_S:.0f} s", "SUCCEEDED", here.await_state(work_id, FINAL), began)


def cluster_lost() -> Row:
    """Return what comes of work whose cluster is away for a while, and then knows no job any more."""
    with services(job_s=3.0) as here:
        began = time.monotonic()
        here.start()
        work_id = here.adapt()
        here.await_state(work_id, frozenset({"RUNNING"}))
        (here.jobs / DOWN).touch()
        time.sleep(5.0)
        for job in here.jobs.glob("*.json"):
            job.unlink()
        (here.jobs / DOWN).unlink()
        view = here.await_state(work_id, FINAL)
        return here.row("cluster lost and back", "SUCCEEDED", view, began, ok=view["attempt"] == 2)


def store_away() -> Row:
    """Return what comes of work whose S3 server is away for `AWAY_S`."""
    with tempfile.TemporaryDirectory(prefix="archprior-s3-") as objects, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        rclone = [str(Path(sys.executable).with_name("rclone")), "serve", "s3", objects, "--config", "/dev/null"]
        command = [*rclone, "--addr", address, "--auth-key", "archprior-bench,archprior-secret"]
        environment = {
            "ARCHPRIOR_STORE_URL": "s3://recovery",
            "ARCHPRIOR_S3_ENDPOINT_URL": f"http://{address}",
            "AWS_ACCESS_KEY_ID": "archprior-bench",
            "AWS_SECRET_ACCESS_KEY": "archprior-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        server = _listening(command, address)
        try:
            with services(job_s=3.0, environment=environment) as here:
                began = time.monotonic()
                here.start()
                work_id = here.adapt()
                here.await_state(work_id, frozenset({"RUNNING"}))
                server.kill()
                server.wait()
                time.sleep(AWAY_S)
                server = _listening(command, address)
                view = here.await_state(work_id, FINAL)
                return here.row(f"store away for {AWAY_S:.0f} s", "SUCCEEDED", view, began, ok=view["attempt"] == 1)
        finally:
            server.kill()
            server.wait()


def _listening(command: list[str], address: str) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    host, _, port = address.partition(":")
    for _ in range(400):
        try:
            socket.create_connection((host, int(port)), 1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return server
    raise TimeoutError("the S3 server does not listen")


SITUATIONS: Final[tuple[Callable[[], Row], ...]] = (sql_locked, cluster_lost, store_away)


def main() -> None:
    """Make the table."""
    about = describe()
    rows = []
    for case in CASES:
        rows.append(killed(case))
        print(rows[-1], flush=True)
    for situation in SITUATIONS:
        rows.append(situation())
        print(rows[-1], flush=True)
    bad = [row.what for row in rows if not row.ok]
    write(
        "recovery",
        {"num_rows": len(rows), "num_ok": len(rows) - len(bad), "not_ok": bad},
        {**about, "rows": [asdict(row) for row in rows]},
    )


if __name__ == "__main__":
    main()
