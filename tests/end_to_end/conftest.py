"""The service as its user runs it: `archprior serve` in a process of its own, with a local Ray of its own."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from service.client.client import Client
from service.client.errors import ServiceUnreachableError
from service.client.retries import RetryPolicy
from service.ray.local import LocalRay
from service.ray.process import REMEMBERED, RayProcess
from service.schemas import FINAL_STATES, AdaptationView

View = TypeVar("View")

ARCHPRIOR = Path(sys.executable).with_name("archprior")
NUM_CLASSES, IMAGES_PER_CLASS = 4, 60
# Far more than an idle machine needs: a busy one must not fail a test.
START_TIMEOUT_S = 180.0
STATE_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 90.0
POLL_S = 0.5
MARK = "END_TO_END_MARK"


class Footprint:
    """The processes that a command has started, however deep: all of them inherit one variable.

    Attributes:
        environment: What to start the command with.
    """

    def __init__(self) -> None:
        self._mark = f"{MARK}={uuid.uuid4().hex}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ARCHPRIOR_", "RAY_"))}
        self.environment = inherited | dict([self._mark.split("=")])

    def processes(self) -> dict[int, str]:
        """Return the command lines, by id, of those that live."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it has just ended, or is not ours
        return found

    def gone(self) -> bool:
        """Return whether all have ended, after a moment for those that are ending."""
        deadline = time.monotonic() + 10.0
        while self.processes():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True


class _Reached(Exception):  # noqa: N818 -- no error: it ends a wait early
    def __init__(self, view: AdaptationView) -> None:
        self.view = view


class Served:
    """A running service.

    Attributes:
        url: Its root.
        data_dir: Its folder.
        client: A client of it.
        process: `archprior serve`.
        footprint: All that it has started.
    """

    def __init__(self, url: str, data_dir: Path, process: subprocess.Popen[bytes], footprint: Footprint) -> None:
        self.url, self.data_dir, self.process, self.footprint = url, data_dir, process, footprint
        self.client = Client(url)

    def wait(
        self, adaptation_id: str, until: Callable[[AdaptationView], bool] = lambda view: view.state in FINAL_STATES
    ) -> AdaptationView:
        """Return the adaptation once `until` holds of it; it must come before it has ended, and in time."""
        deadline = time.monotonic() + STATE_TIMEOUT_S

        def look(view: AdaptationView) -> None:
            if until(view):
                raise _Reached(view)
            assert time.monotonic() < deadline, view
            assert view.state not in FINAL_STATES, view

        try:
            return self.client.wait(adaptation_id, on_progress=look, poll_s=POLL_S)
        except _Reached as reached:
            return reached.view

    def until(self, look: Callable[[], View], holds: Callable[[View], bool]) -> View:
        """Return what `look` sees once `holds` is true of it; in time."""
        deadline = time.monotonic() + STATE_TIMEOUT_S
        while not holds(seen := look()):
            assert time.monotonic() < deadline, seen
            time.sleep(POLL_S)
        return seen

    def wait_until_it_works(self, adaptation_id: str) -> AdaptationView:
        """Return the adaptation once its job is in the middle of its work."""
        return self.wait(
            adaptation_id,
            lambda view: view.state == "RUNNING" and view.progress is not None and view.progress.phase == "searching",
        )

    def ray(self) -> RayProcess:
        """Return the local Ray that the service remembers."""
        remembered = RayProcess.remembered(self.data_dir / REMEMBERED)
        assert remembered is not None
        return remembered

    def ask_ray(self, path: str) -> dict[str, object]:
        """Return what the dashboard's REST interface answers, as Ray's own page would ask it."""
        ray = self.ray()
        headers = {"Authorization": f"Bearer {ray.token()}"}
        answer = httpx.get(f"{ray.dashboard_url}{path}", headers=headers, trust_env=False, timeout=60.0)
        assert answer.is_success, answer.text
        return answer.json()

    def metrics(self) -> str:
        """Return what Prometheus would scrape of all processes of the local Ray."""
        (found,) = json.loads((self.ray().folder / "ray" / "prom_metrics_service_discovery.json").read_text())
        pages = [httpx.get(f"http://{target}/metrics", trust_env=False, timeout=60.0) for target in found["targets"]]
        return "".join(page.text for page in pages)

    def ended_job(self, job_id: str) -> dict[str, object]:
        """Return what Ray knows of a job once its process has ended: a moment after its manifest."""
        deadline = time.monotonic() + STATE_TIMEOUT_S
        while (job := self.ask_ray(f"/api/jobs/{job_id}"))["status"] == "RUNNING":
            assert time.monotonic() < deadline, job
            time.sleep(POLL_S)
        return job

    def train_run(self, job_id: str) -> dict[str, object]:
        """Return what Ray Train's state says of the run that a job has made."""
        runs = self.ask_ray("/api/train/v2/runs/v1")["train_runs"]
        (run,) = [run for run in runs if run["name"] == job_id]
        return run

    def kept(self) -> tuple[set[str], set[str], set[str]]:
        """Return what the service keeps: its files of uploads and objects, its datasets, its adaptations."""
        folders = (self.data_dir / "uploads", self.data_dir / "objects")
        files = {str(path) for folder in folders for path in folder.rglob("*") if path.is_file()}
        datasets = {dataset.id for dataset in self.client.datasets(limit=100).items}
        return files, datasets, {one.id for one in self.client.adaptations(limit=100).items}

    def end(self, number: signal.Signals) -> int:
        """Send the service a signal; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def _serving(data_dir: Path) -> Iterator[Served]:
    footprint = Footprint()
    data_dir.mkdir(exist_ok=True)
    (data_dir / "service.json").unlink(missing_ok=True)  # of one that was killed
    with (data_dir / "log").open("ab") as log:
        process = subprocess.Popen(
            [ARCHPRIOR, "serve", "--port", "0", "--data-dir", data_dir],
            # Two CPUs, whatever the machine has: for two ranks, and one job after the other.
            env=footprint.environment | {"ARCHPRIOR_RAY_NUM_CPUS": "2"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        served = Served(_address(process, data_dir), data_dir, process, footprint)
        with served.client:
            yield served
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(STOP_TIMEOUT_S)


def _address(process: subprocess.Popen[bytes], data_dir: Path) -> str:
    """Return the address of a service once it can take work."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, (data_dir / "log").read_text()
        try:
            url = json.loads((data_dir / "service.json").read_text())["url"]
            with Client(url, retries=RetryPolicy(num_tries=1)) as client:
                if client.ready().ok:
                    return url
        except (FileNotFoundError, ServiceUnreachableError):
            pass
        time.sleep(POLL_S)
    pytest.fail(f"not ready in time:\n{(data_dir / 'log').read_text()}")


@contextmanager
def _folder_of_services(data_dir: Path) -> Iterator[Callable[[], AbstractContextManager[Served]]]:
    try:
        yield partial(_serving, data_dir)
    finally:
        # Of a test that failed between a kill and the next start.
        LocalRay(data_dir, num_cpus=1).close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[], AbstractContextManager[Served]]]:
    """Returns a function that starts a service, always on the same data folder."""
    with _folder_of_services(tmp_path / "data") as start:
        yield start


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One service for the tests of a module, which leave it running."""
    with _folder_of_services(tmp_path_factory.mktemp("end_to_end") / "data") as start, start() as one:
        yield one


@pytest.fixture(scope="session")
def digits_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real dataset: handwritten digits of a few classes, as a zip of class folders of PNG files."""
    path = tmp_path_factory.mktemp("dataset") / "digits.zip"
    digits = load_digits()
    with zipfile.ZipFile(path, "w") as archive:
        for label in range(NUM_CLASSES):
            for number in np.flatnonzero(digits.target == label)[:IMAGES_PER_CLASS]:
                png = io.BytesIO()
                Image.fromarray((digits.images[number] * 255 / 16).astype(np.uint8)).save(png, "PNG")
                archive.writestr(f"{label}/{number:04d}.png", png.getvalue())
    return path


@pytest.fixture
def footprint() -> Footprint:
    """Of one command."""
    return Footprint()


@pytest.fixture(scope="session")
def archprior() -> Path:
    """The command."""
    return ARCHPRIOR
