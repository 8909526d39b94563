"""What the service's tests share: records in a file, a store in a folder, a cluster that does as it is told."""

import hashlib
import io
import json
import queue
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image

from service.app import create_app
from service.errors import ClusterUnavailableError, NotFoundError
from service.ray.jobs import ALIVE, Capacity, JobReport, JobStatus, LivingJob
from service.ray.observer import Amount, ClusterLoad, JobActors
from service.records.adaptations import AdaptationRecords
from service.records.database import Database
from service.records.datasets import DatasetRecords
from service.settings import Settings
from workers.contracts.adaptations import AdaptationRequest, Candidate, Failure, Progress
from workers.contracts.artifacts import MEDIA_TYPES, Artifact, CostReport, Interval, Manifest, Metrics
from workers.contracts.datasets import DatasetReport
from workers.contracts.priors import PriorCard
from workers.priors.registry import DEFAULTS, bundled_cards, bundled_folder
from workers.store import layout
from workers.store.folder import FolderStore
from workers.store.protocol import Store

ARCH = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|none~0|skip_connect~1|nor_conv_1x1~2|"
STATE_TIMEOUT_S = 20.0
BUNDLED = DEFAULTS["nas_bench_201"]


class FakeJobs:
    """A cluster's jobs, each in the state that a test puts it in. `down` and `refuses` make it fail."""

    def __init__(self) -> None:
        self.reports: dict[str, JobReport] = {}
        self.entrypoints: dict[str, str] = {}
        self.metadata: dict[str, Mapping[str, str]] = {}
        self.stopped: list[str] = []
        self.submissions: queue.Queue[str] = queue.Queue()
        self.down = False
        self.refuses = False
        self.starts_but_fails = False

    def submit(self, submission_id: str, entrypoint: str, metadata: Mapping[str, str]) -> None:
        self._check()
        if self.refuses or submission_id in self.reports:
            raise ClusterUnavailableError("Ray answered with status 500")
        self.reports[submission_id] = JobReport(status=JobStatus.RUNNING)
        self.entrypoints[submission_id], self.metadata[submission_id] = entrypoint, metadata
        self.submissions.put(submission_id)
        if self.starts_but_fails:
            raise ClusterUnavailableError("Ray does not answer")

    def report(self, submission_id: str) -> JobReport:
        self._check()
        return self.reports.get(submission_id, JobReport(status=JobStatus.MISSING))

    def stop(self, submission_id: str) -> None:
        self._check()
        self.stopped.append(submission_id)
        self.reports[submission_id] = JobReport(status=JobStatus.STOPPED)

    def living(self) -> list[LivingJob]:
        self._check()
        return [
            LivingJob(submission_id=name, metadata=self.metadata.get(name, {}))
            for name, report in self.reports.items()
            if report.status in ALIVE
        ]

    def set(self, submission_id: str, status: JobStatus, message: str = "") -> None:
        self.reports[submission_id] = JobReport(status=status, message=message)

    def forget(self) -> None:
        """What a lost head does."""
        self.reports.clear()

    def _check(self) -> None:
        if self.down:
            raise ClusterUnavailableError("Ray does not answer")


class FakeObserver:
    """Sees of a cluster what a test has put there: jobs' logs and actors, and how much is in use."""

    def __init__(self, cluster: "FakeCluster") -> None:
        self._cluster = cluster
        self.logs: dict[str, bytes] = {}
        self.of_jobs: dict[str, JobActors] = {}
        self.used: float | None = 1.0

    def load(self) -> ClusterLoad:
        self._cluster.check()
        cpus, gpus = (Amount(float(total), self.used) for total in (self._cluster.cpus, self._cluster.gpus))
        return ClusterLoad(num_nodes=3, cpus=cpus, gpus=gpus)

    def actors(self, submission_id: str) -> JobActors:
        self._find(submission_id)
        return self.of_jobs.get(submission_id, JobActors(ray_id=None, actors=()))

    def log(self, submission_id: str, *, num_bytes: int) -> bytes:
        self._find(submission_id)
        return self.logs.get(submission_id, b"")[-num_bytes:]

    def _find(self, submission_id: str) -> None:
        if self._cluster.jobs.report(submission_id).status == JobStatus.MISSING:
            raise NotFoundError("Ray does not know this job any more", got=submission_id)


class FakeCluster:
    """A cluster of a given size with those jobs."""

    def __init__(self, jobs: FakeJobs, *, num_cpus: int = 2, num_gpus: int = 0) -> None:
        self.jobs, self.cpus, self.gpus, self.closed = jobs, num_cpus, num_gpus, False
        self.dashboard_url: str | None = "http://ray.test:8265"
        self.observed = FakeObserver(self)

    def connect(self) -> FakeJobs:
        self.check()
        return self.jobs

    def capacity(self) -> Capacity:
        return Capacity(self.cpus, self.gpus)

    def observer(self) -> FakeObserver:
        self.check()
        return self.observed

    def check(self) -> None:
        if self.jobs.down:
            raise ClusterUnavailableError("Ray does not answer")

    def close(self) -> None:
        self.closed = True


class FakeJob:
    """Writes into the store what the job of one attempt would."""

    def __init__(self, store: Store, adaptation_id: str, attempt: int = 1) -> None:
        self.store, self.adaptation_id, self.attempt = store, adaptation_id, attempt
        self.prefix = layout.attempt(adaptation_id, attempt)

    def progress(self, **fields: object) -> None:
        values = {"phase": "searching", "fraction": 0.4, "elapsed_s": 12.5, "eta_s": 20.0, "updated_at": time.time()}
        best = Candidate(architecture=ARCH, query_accuracy=0.8)
        self._put("progress.json", Progress(**{**values, "best": best, **fields}).model_dump_json().encode())

    def fail(self, **fields: str) -> None:
        values = {"code": "export_mismatch", "what": "the exported model predicts something else", **fields}
        self._put("failure.json", Failure(**values).model_dump_json().encode())

    def succeed(self, **replaced: bytes) -> None:
        metrics = Metrics(
            adaptation_id=self.adaptation_id,
            attempt=self.attempt,
            request=AdaptationRequest(),
            architecture=ARCH,
            prior="none",
            accuracy=0.9,
            accuracy_interval=Interval(low=0.85, high=0.94),
            per_class_accuracy={"cat": 0.9, "dog": 0.9},
            num_train=100,
            num_query=20,
            num_test=200,
            resolution=16,
            cost=CostReport(params=1000, macs=20_000),
            candidates=(),
            searching_helped=True,
            verdict="Searching brought 3 points.",
            timings_s={"total": 55.0},
            series={},
            max_reload_difference={"model.onnx": 1e-6},
            skipped_images=0,
            dataset_sha256="0" * 64,
            seed=0,
            plan={},
            versions={},
        )
        files = {
            "architecture.json": json.dumps({"space": "nas_bench_201", "arch": ARCH}).encode(),
            "metrics.json": metrics.model_dump_json().encode(),
            "weights.safetensors": bytes(range(256)) * 40,
            "report.md": b"# Report\n",
            **{name.replace("_json", ".json"): data for name, data in replaced.items()},
        }
        for name, data in files.items():
            self._put(name, data)
        artifacts = tuple(
            Artifact(
                name=name,
                num_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                media_type=MEDIA_TYPES[name],
            )
            for name, data in files.items()
        )
        manifest = Manifest(adaptation_id=self.adaptation_id, attempt=self.attempt, artifacts=artifacts)
        self._put("manifest.json", manifest.model_dump_json().encode())

    def _put(self, name: str, data: bytes) -> None:
        self.store.put_bytes(f"{self.prefix}/{name}", data)


def zip_of_classes(classes: Mapping[str, int], *, shade: int = 0) -> bytes:
    """Return a zip with that many small gray images in a folder for each class."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for position, (name, count) in enumerate(classes.items()):
            for number in range(count):
                image = io.BytesIO()
                Image.new("L", (12, 12), shade + 40 * position + number).save(image, "PNG")
                archive.writestr(f"{name}/{number}.png", image.getvalue())
    return data.getvalue()


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Where the records lie."""
    return f"sqlite:///{tmp_path / 'records.sqlite3'}"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Records, migrated from nothing."""
    opened = Database(database_url)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def records(database: Database) -> AdaptationRecords:
    return AdaptationRecords(database)


@pytest.fixture
def add_adaptation(database: Database) -> Callable[..., object]:
    """Returns a function that records an adaptation to a dataset of its own."""

    def add(owner: str = "local", priority: int = 0, **fields: object) -> object:
        datasets = DatasetRecords(database)
        report = DatasetReport(
            classes=("cat", "dog"), num_images=(6, 6), median_size=12, min_size=12, max_size=12, modes={"L": 12}
        )
        dataset, _ = datasets.add(name="pets", sha256="0" * 64, num_bytes=10, report=report, owner=owner)
        request = AdaptationRequest(**{"dataset_id": dataset.id, "prior": "none", **fields})
        return AdaptationRecords(database).add(request, dataset, owner=owner, priority=priority)

    return add


@pytest.fixture(scope="session")
def own_card() -> PriorCard:
    """The card of a prior that is the bundled one but for its id, `own-v1`; its tensors are those."""
    return bundled_cards()[BUNDLED].model_copy(update={"id": "own-v1"})


@pytest.fixture(scope="session")
def tensors() -> Path:
    """The tensors of the bundled prior."""
    return bundled_folder() / BUNDLED / "prior.safetensors"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "objects", create=True)


@pytest.fixture
def jobs() -> FakeJobs:
    return FakeJobs()


@pytest.fixture
def cluster(jobs: FakeJobs) -> FakeCluster:
    return FakeCluster(jobs)


@pytest.fixture
def job_of(store: FolderStore) -> Callable[..., FakeJob]:
    """Returns a function from an adaptation's id and attempt to its job's hand in the store."""
    return lambda adaptation_id, attempt=1: FakeJob(store, adaptation_id, attempt)


@pytest.fixture(scope="session")
def small_zip() -> bytes:
    """A dataset of two classes with six images each."""
    return zip_of_classes({"cat": 6, "dog": 6})


@pytest.fixture(scope="session")
def make_zip() -> Callable[..., bytes]:
    return zip_of_classes


class Service:
    """A running service with a fake cluster, and what a test needs to play the jobs."""

    def __init__(self, app: FastAPI, client: httpx.Client, jobs: FakeJobs, cluster: FakeCluster) -> None:
        self.client, self.jobs, self.cluster = client, jobs, cluster
        self.parts = app.state.parts

    def job(self, adaptation_id: str, attempt: int = 1) -> FakeJob:
        return FakeJob(self.parts.store, adaptation_id, attempt)

    def await_submission(self) -> str:
        self.parts.loop.wake()
        return self.jobs.submissions.get(timeout=STATE_TIMEOUT_S)

    def await_state(self, adaptation_id: str, state: str) -> dict[str, object]:
        deadline = time.monotonic() + STATE_TIMEOUT_S
        tick = threading.Event()
        while True:
            view = self.client.get(f"/v1/adaptations/{adaptation_id}").json()
            if view["state"] == state:
                return view
            assert time.monotonic() < deadline, f"still {view['state']}, not {state}"
            self.parts.loop.wake()
            tick.wait(0.01)

    def keys(self) -> set[str]:
        return {item.key for item in self.parts.store.list("")}

    def add_dataset(self, data: bytes, name: str = "pets.zip") -> dict[str, object]:
        response = self.client.post("/v1/datasets", files={"dataset": (name, data, "application/zip")})
        assert response.status_code in {200, 201}, response.text
        return response.json()

    def adapt(self, **fields: object) -> dict[str, object]:
        response = self.client.post("/v1/adaptations", json=fields)
        assert response.status_code == 202, response.text
        return response.json()


@contextmanager
def start_service(data_dir: Path, cluster: FakeCluster | None = None, **settings: object) -> Iterator[Service]:
    """Yield a service of its own on that folder; None: with a cluster of its own too."""
    cluster = cluster or FakeCluster(FakeJobs())
    jobs = cluster.jobs
    own = Settings(data_dir=data_dir, **{"reconcile_interval_s": 60.0, **settings})
    app = create_app(own, cluster=lambda _: cluster)
    with serving(app) as url, httpx.Client(base_url=url, timeout=STATE_TIMEOUT_S, trust_env=False) as client:
        yield Service(app, client, jobs, cluster)


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Yield the address of an app that a real server serves, on a port of its own."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            # The socket is bound already: a request waits in its queue until the server listens.
            listening.listen()
            httpx.get(f"{url}/healthz", timeout=STATE_TIMEOUT_S, trust_env=False).raise_for_status()
            yield url
        finally:
            server.should_exit = True
            thread.join(STATE_TIMEOUT_S)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that holds nothing yet."""
    with start_service(tmp_path / "data", max_upload_bytes=200_000) as one:
        yield one


@pytest.fixture(scope="session")
def new_service() -> Callable[..., AbstractContextManager[Service]]:
    """Returns a function that starts a service on a folder."""
    return start_service


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory, small_zip: bytes) -> Iterator[Service]:
    """One service for the tests of a module that only read, or add to it; a dataset lies there, named in `dataset`."""
    with start_service(tmp_path_factory.mktemp("shared") / "data", max_upload_bytes=200_000) as one:
        one.dataset = one.add_dataset(small_zip)
        yield one
