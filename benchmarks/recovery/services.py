"""Services that follow one another on a folder, the client that asks them, and what is told of a case."""

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from PIL import Image

PATIENCE_S: Final = 90.0
FINAL: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of a case.

    Attributes:
        ray: What ran the jobs: `folder`, or a `local Ray` with real ones.
        wanted, state: How the work was to end, and how it did.
        wanted_attempt, attempt: In which of its attempts.
        num_adaptations, num_datasets: That there are in the end.
        num_twice: Jobs that were submitted more than once; with a real Ray, attempts beyond one that left a result.
        num_left: Jobs that live although nothing waits for them.
    """

    what: str
    ray: str
    wanted: str
    state: str
    wanted_attempt: int
    attempt: int
    num_adaptations: int
    num_datasets: int
    num_twice: int
    num_left: int
    seconds: float
    ok: bool


class Services:
    """One service after the other on a folder, and the client that asks whichever there is.

    Args:
        folder: Of the service's data.
        options: Of `benchmarks.recovery.service`.
        environment: Of the services, beside this process's.
        jobs: The folder of the jobs; None: beside the data.
    """

    ray: str = "folder"

    def __init__(
        self,
        folder: Path,
        *options: str,
        environment: Mapping[str, str] | None = None,
        jobs: Path | None = None,
    ) -> None:
        self.folder, self.jobs = folder, jobs or folder / "jobs"
        self._options = options
        self._environment = {**os.environ, "ARCHPRIOR_LOG_LEVEL": "ERROR", **(environment or {})}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=60.0, trust_env=False)
        self.exit_codes: list[int] = []

    @property
    def data_dir(self) -> Path:
        """Where the services keep what they know."""
        return self.folder / "data"

    def start(self, *kill: str) -> None:
        """Start a service; named are the point at which it is killed, and whether before or after it."""
        options = (str(self.data_dir), str(self._port), *kill, *self._options)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.recovery.service", *options], env=self._environment
        )

    def kill(self) -> None:
        """Kill the service that there is, if any; what it has started lives on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ask(self, method: str, path: str, **request: object) -> httpx.Response:
        """Return the first answer that is none of trouble; a killed service is followed by another."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = self.http.request(method, path, **request)
                if answer.status_code < 500:
                    return answer
            except httpx.TransportError:
                self._follow()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{method} {path}")
            time.sleep(0.05)

    def adapt(self, *, seed: int = 0, archive: bytes | None = None, budget_s: int = 60) -> str:
        """Return the id of a new adaptation to a dataset that comes along; None: to a small one."""
        request = adaptation_form(seed=seed, archive=archive, budget_s=budget_s)
        answer = self.ask("POST", "/v1/adaptations", **request)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def await_state(
        self, work_id: str, states: frozenset[str] = FINAL, *, patience_s: float = PATIENCE_S
    ) -> dict[str, object]:
        """Return the view of an adaptation once it is in one of the states, or time is over."""
        deadline = time.monotonic() + patience_s
        while True:
            view: dict[str, object] = self.ask("GET", f"/v1/adaptations/{work_id}").json()
            if view["state"] in states or time.monotonic() > deadline:
                return view
            time.sleep(0.05)

    def count(self, kind: str) -> int:
        """Return how many datasets or adaptations there are, a hundred at most."""
        return len(self.ask("GET", f"/v1/{kind}", params={"limit": 100}).json()["items"])

    def row(
        self,
        what: str,
        view: Mapping[str, object],
        began: float,
        *,
        wanted: str = "SUCCEEDED",
        attempt: int = 1,
        num_adaptations: int = 1,
        ok: bool = True,
    ) -> Row:
        """Return what came of a case, judged by how it was to end, once and no more."""
        seen = (self.count("adaptations"), self.count("datasets"), self.num_twice(view), self.num_left())
        state, reached = str(view["state"]), int(str(view["attempt"]))
        return Row(
            what=what,
            ray=self.ray,
            wanted=wanted,
            state=state,
            wanted_attempt=attempt,
            attempt=reached,
            num_adaptations=seen[0],
            num_datasets=seen[1],
            num_twice=seen[2],
            num_left=seen[3],
            seconds=round(time.monotonic() - began, 1),
            ok=ok and seen == (num_adaptations, 1, 0, 0) and (state, reached) == (wanted, attempt),
        )

    def num_twice(self, view: Mapping[str, object]) -> int:  # noqa: ARG002
        """Return how many jobs were submitted more than once."""
        submitted = (self.jobs / "submissions").read_text().split()
        return len(submitted) - len(set(submitted))

    def num_left(self) -> int:
        """Return how many jobs live."""
        return sum('"RUNNING"' in path.read_text() for path in self.jobs.glob("*.json"))

    def end(self) -> None:
        """End the service that there is."""
        self.http.close()
        self.kill()

    def _follow(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            self.exit_codes.append(self._process.returncode)
            self.start()


def adaptation_form(*, seed: int = 0, archive: bytes | None = None, budget_s: int = 60) -> dict[str, object]:
    """Return the request of an adaptation to a dataset that comes along; sent again, it makes nothing more."""
    return {
        "headers": {"Idempotency-Key": uuid.uuid4().hex},
        "data": {"prior": "none", "search": "supernet", "seed": str(seed), "budget_s": str(budget_s)},
        "files": {"dataset": ("shapes.zip", archive or small_zip(), "application/zip")},
    }


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
def new_folder() -> Iterator[Path]:
    """Yield a folder that goes with its services."""
    folder = Path(tempfile.mkdtemp(prefix="archprior-recovery-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def services(*, job_s: float = 0.5, environment: Mapping[str, str] | None = None) -> Iterator[Services]:
    """Yield services on a new folder, whose jobs lie in it and run for so long."""
    with new_folder() as folder:
        here = Services(folder, *jobs_of(folder, job_s), environment=environment)
        try:
            yield here
        finally:
            here.end()


def jobs_of(folder: Path, job_s: float) -> tuple[str, ...]:
    """Return the options of a service whose jobs lie in a folder and run for so long."""
    return ("--jobs", str(folder / "jobs"), "--job-s", str(job_s))
