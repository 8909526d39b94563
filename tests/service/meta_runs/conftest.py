"""What the tests of meta-runs share: recorded ones, and the hand of their jobs in the store."""

import hashlib
import threading
import time
from collections.abc import Callable

import pytest

from service.reconcile.adaptations import AdaptationSteps
from service.reconcile.decisions import Limits
from service.reconcile.executor import Reconciler
from service.reconcile.meta_runs import MetaRunSteps
from service.records.adaptations import AdaptationRecords
from service.records.database import Database
from service.records.datasets import DatasetRecords
from service.records.lease import RECONCILER, Lease
from service.records.meta_runs import MetaRunRecords
from workers.contracts.adaptations import Failure
from workers.contracts.artifacts import Artifact
from workers.contracts.datasets import DatasetReport
from workers.contracts.meta_runs import (
    Counters,
    DatasetChoice,
    MetaControl,
    MetaDataset,
    MetaEvent,
    MetaEvents,
    MetaManifest,
    MetaMetrics,
    MetaProgress,
    MetaRunRequest,
)
from workers.priors.registry import bundled_cards
from workers.store import layout
from workers.store.protocol import Store

REPORT = b"# Report\n"
STATE_TIMEOUT_S = 20.0


class FakeMetaJob:
    """Writes into the store what the job of one attempt of a meta-run would, and reads what it is told."""

    def __init__(self, store: Store, meta_run_id: str, attempt: int = 1) -> None:
        self.store, self.meta_run_id, self.attempt = store, meta_run_id, attempt
        self.prefix = layout.meta_attempt(meta_run_id, attempt)

    def progress(self, **fields: object) -> None:
        values = {"phase": "learning", "step": 40, "num_steps": 100, "elapsed_s": 12.5, "updated_at": time.time()}
        self._put("progress.json", MetaProgress(**{**values, **fields}).model_dump_json().encode())

    def events(self, *sequences: int) -> None:
        told = (MetaEvent(sequence=n, at=float(n), kind="checkpoint", step=n, message=f"event {n}") for n in sequences)
        self._put("events.json", MetaEvents(events=tuple(told)).model_dump_json().encode())

    def fail(self, **fields: str) -> None:
        values = {"code": "diverged", "what": "the loss is not finite", "todo": "Lower lr.", **fields}
        self._put("failure.json", Failure(**values).model_dump_json().encode())

    def finish(self, prior_id: str | None = None, *, step: int = 100, complete: bool = True) -> None:
        """Leave a manifest, and the prior before it."""
        if prior_id is not None:
            card = bundled_cards()["nas_bench_201-v4"].model_copy(update={"id": prior_id})
            self.store.put_bytes(f"{layout.prior(prior_id)}/card.json", card.model_dump_json().encode())
        choice = DatasetChoice(dataset_id="ds-1")
        metrics = MetaMetrics(
            meta_run_id=self.meta_run_id,
            attempt=self.attempt,
            request=MetaRunRequest(datasets=(choice,)),
            prior_id=prior_id,
            complete=complete,
            num_steps=step,
            counters=Counters(slots=step),
            data_wait=0.1,
            datasets=(),
            versions={},
        )
        self._put("metrics.json", metrics.model_dump_json().encode())
        self._put("report.md", REPORT)
        report = Artifact(
            name="report.md",
            num_bytes=len(REPORT),
            sha256=hashlib.sha256(REPORT).hexdigest(),
            media_type="text/markdown; charset=utf-8",
        )
        manifest = MetaManifest(
            meta_run_id=self.meta_run_id,
            attempt=self.attempt,
            prior_id=prior_id,
            step=step,
            complete=complete,
            artifacts=(report,),
        )
        self._put("manifest.json", manifest.model_dump_json().encode())

    def told(self) -> MetaControl:
        if self.store.size(f"{self.prefix}/control.json") is None:
            return MetaControl()
        return MetaControl.model_validate_json(self.store.get_bytes(f"{self.prefix}/control.json"))

    def _put(self, name: str, data: bytes) -> None:
        self.store.put_bytes(f"{self.prefix}/{name}", data)


@pytest.fixture
def meta_runs(database: Database) -> MetaRunRecords:
    return MetaRunRecords(database)


@pytest.fixture
def add_meta_run(database: Database, meta_runs: MetaRunRecords) -> Callable[..., object]:
    """Returns a function that records a meta-run over one dataset, the same each time, that may be learned from."""
    report = DatasetReport(
        classes=("cat", "dog"), num_images=(6, 6), median_size=12, min_size=12, max_size=12, modes={"L": 12}
    )

    def add(owner: str = "local", **fields: object) -> object:
        known, _ = DatasetRecords(database).add(
            name="animals", sha256="1" * 64, num_bytes=10, report=report, owner=owner, meta_use=True
        )
        request = MetaRunRequest(datasets=(DatasetChoice(dataset_id=known.id),), **fields)
        dataset = MetaDataset(
            dataset_id=known.id,
            name=known.name,
            sha256=known.sha256,
            archive_key=layout.dataset_archive(known.sha256),
            report_key=layout.dataset_report(known.sha256),
            meta_train=report.classes,
        )
        return meta_runs.add(request, (dataset,), owner=owner)

    return add


@pytest.fixture
def meta_job_of(store: Store) -> Callable[..., FakeMetaJob]:
    """Returns a function from a meta-run's id and attempt to its job's hand in the store."""
    return lambda meta_run_id, attempt=1: FakeMetaJob(store, meta_run_id, attempt)


@pytest.fixture(scope="session")
def meta_job_in() -> Callable[..., FakeMetaJob]:
    """Returns a function from a service, and an id and attempt, to the job's hand in that service's store."""
    return lambda service, meta_run_id, attempt=1: FakeMetaJob(service.parts.store, meta_run_id, attempt)


@pytest.fixture
def reconciler_with(database: Database, store: Store, cluster: object) -> Callable[..., Reconciler]:
    """Returns a function that makes a reconciler with some of its options changed."""

    def make(
        *, holder: str = "a", cancel_grace_s: float = 0.0, stop_grace_s: float = 0.0, max_attempts: int = 3, **options
    ) -> Reconciler:
        limits = Limits(max_attempts=max_attempts, cancel_grace_s=cancel_grace_s, stop_grace_s=stop_grace_s)
        return Reconciler(
            adaptations=AdaptationSteps(records=AdaptationRecords(database), store=store, limits=limits),
            meta_runs=MetaRunSteps(
                records=MetaRunRecords(database), datasets=DatasetRecords(database), store=store, limits=limits
            ),
            cluster=cluster,
            lease=Lease(database, name=RECONCILER, holder=holder, ttl_s=30.0),
            **{"max_submitted": 1, "max_meta_runs": 1, **options},
        )

    return make


@pytest.fixture
def reconciler(reconciler_with: Callable[..., Reconciler]) -> Reconciler:
    return reconciler_with()


@pytest.fixture
def running(add_meta_run: Callable[..., object], reconciler_with: Callable[..., Reconciler]) -> object:
    """A meta-run whose job runs."""
    meta_run = add_meta_run()
    reconciler_with().step()
    return meta_run


@pytest.fixture(scope="session")
def await_meta_state() -> Callable[..., dict[str, object]]:
    """Returns a function that waits until a service's meta-run is in a state, and returns its view."""

    def wait(service: object, meta_run_id: str, state: str) -> dict[str, object]:
        deadline, tick = time.monotonic() + STATE_TIMEOUT_S, threading.Event()
        while True:
            view = service.client.get(f"/v1/meta-runs/{meta_run_id}").json()
            if view["state"] == state:
                return view
            assert time.monotonic() < deadline, f"still {view['state']}, not {state}"
            service.parts.loop.wake()
            tick.wait(0.01)

    return wait
