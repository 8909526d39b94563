"""Everything at a glance: the cluster, and what waits, runs and has failed of one owner."""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final

from service.adaptations.views import Views, adaptation_path
from service.datasets.views import dataset_path
from service.errors import ClusterUnavailableError
from service.meta_runs.views import MetaRunViews, meta_run_path
from service.ray.cluster import Cluster
from service.ray.observer import Amount
from service.reading import Reading
from service.records.adaptations import AdaptationRecords
from service.records.counts import unfinished_by_state
from service.records.database import Database
from service.records.datasets import DatasetRecords
from service.records.meta_runs import MetaRunRecords
from service.records.model import Adaptation, DatasetEntry, MetaRun
from service.schemas import (
    AdaptationView,
    AmountView,
    CheckingDataset,
    ClusterView,
    FailureView,
    Links,
    MetaRunLinks,
    MetaRunView,
    Overview,
    Problem,
    RunningWork,
    WaitingWork,
    WorkLinks,
)

NUM_RUNNING: Final = 10
NUM_WAITING: Final = 5
NUM_FAILURES: Final = 5
NUM_CHECKING: Final = 3
MAX_MESSAGE: Final = 300
UNKNOWN: Final = Problem(title="Nothing is known of why", status=HTTPStatus.INTERNAL_SERVER_ERROR, code="unknown")


@dataclass(frozen=True, kw_only=True)
class Overviews:
    """Gathers what the records, the store and the cluster know.

    Attributes:
        database, adaptations, meta_runs, datasets: For what there is.
        views, meta_views: For how far it has come.
        cluster: Asked for its load; it need not answer.
        data_dir: Whose disk shall not be full.
    """

    database: Database
    adaptations: AdaptationRecords
    meta_runs: MetaRunRecords
    datasets: DatasetRecords
    views: Views
    meta_views: MetaRunViews
    cluster: Cluster
    data_dir: Path

    def of(self, owner: str) -> Overview:
        """Return how things stand now for one owner."""
        counts = unfinished_by_state(self.database, owner=owner)
        return Overview(
            at=datetime.now(UTC),
            cluster=_cluster_view(self.cluster),
            counts={"adaptation": dict(counts["adaptations"]), "meta-run": dict(counts["meta_runs"])},
            running=self._running(owner),
            waiting=self._waiting(owner),
            failures=self._failures(owner),
            checking=self._checking(owner),
            free_bytes=shutil.disk_usage(self.data_dir).free,
        )

    def _running(self, owner: str) -> tuple[RunningWork, ...]:
        reading = Reading()
        found: tuple[AdaptationView | MetaRunView, ...] = (
            *self.views.listed(self.adaptations.active(owner=owner, limit=NUM_RUNNING), reading),
            *self.meta_views.listed(self.meta_runs.active(owner=owner, limit=NUM_RUNNING), reading),
        )
        oldest_first = sorted(found, key=lambda view: view.started_at or view.created_at)
        return tuple(map(_running_work, oldest_first[:NUM_RUNNING]))

    def _waiting(self, owner: str) -> tuple[WaitingWork, ...]:
        adaptations = self.adaptations.waiting(NUM_WAITING, owner=owner)
        meta_runs = self.meta_runs.waiting(NUM_WAITING, owner=owner)
        positions = {**self.adaptations.positions(adaptations), **self.meta_runs.positions(meta_runs)}
        works: tuple[Adaptation | MetaRun, ...] = (*adaptations, *meta_runs)
        # One that was started between two questions waits no more.
        found = [_waiting_work(work, positions[work.id]) for work in works if work.id in positions]
        return tuple(sorted(found, key=lambda work: work.position)[:NUM_WAITING])

    def _failures(self, owner: str) -> tuple[FailureView, ...]:
        found = [
            *_failed_works(self.adaptations.failed(owner=owner, limit=NUM_FAILURES)),
            *_failed_works(self.meta_runs.failed(owner=owner, limit=NUM_FAILURES)),
            *_rejected(self.datasets.last_rejected(owner=owner, limit=NUM_FAILURES)),
        ]
        return tuple(sorted(found, key=lambda failure: failure.at, reverse=True)[:NUM_FAILURES])

    def _checking(self, owner: str) -> tuple[CheckingDataset, ...]:
        found, _ = self.datasets.page(owner=owner, limit=NUM_CHECKING, state="CHECKING")
        return tuple(
            CheckingDataset(
                id=entry.id, name=entry.name, num_bytes=entry.num_bytes, since=entry.changed_at or entry.created_at
            )
            for entry in found
        )


def _cluster_view(cluster: Cluster) -> ClusterView:
    try:
        load = cluster.observer().load()
    except ClusterUnavailableError as error:
        return ClusterView(reachable=False, why=str(error), dashboard=cluster.dashboard_url)
    return ClusterView(
        reachable=True,
        num_nodes=load.num_nodes,
        cpus=_amount(load.cpus),
        gpus=_amount(load.gpus),
        dashboard=cluster.dashboard_url,
    )


def _amount(amount: Amount) -> AmountView:
    return AmountView(total=amount.total, used=amount.used)


def _running_work(view: AdaptationView | MetaRunView) -> RunningWork:
    progress = view.progress
    return RunningWork(
        kind="adaptation" if isinstance(view, AdaptationView) else "meta-run",
        id=view.id,
        name=view.request.name or "",
        state=view.state,
        attempt=view.attempt,
        phase="" if progress is None else progress.phase,
        fraction=None if progress is None else progress.fraction,
        eta_s=None if progress is None else progress.eta_s,
        links=_links(view.links),
    )


def _links(links: Links | MetaRunLinks) -> WorkLinks:
    return WorkLinks(self=links.self, dashboard=links.dashboard, log=links.log, actors=links.actors)


def _waiting_work(work: Adaptation | MetaRun, position: int) -> WaitingWork:
    return WaitingWork(
        kind="adaptation" if isinstance(work, Adaptation) else "meta-run",
        id=work.id,
        name=work.request.name or "",
        position=position,
        attempt=work.attempt,
        links=WorkLinks(self=_path(work)),
    )


def _failed_works(works: Iterable[Adaptation | MetaRun]) -> Iterator[FailureView]:
    for work in works:
        error = work.error or UNKNOWN
        yield FailureView(
            kind="adaptation" if isinstance(work, Adaptation) else "meta-run",
            id=work.id,
            name=work.request.name or "",
            at=work.finished_at or work.created_at,
            code=error.code,
            message=_one_line(error.detail or error.title),
            links=WorkLinks(self=_path(work)),
        )


def _rejected(entries: Iterable[DatasetEntry]) -> Iterator[FailureView]:
    for entry in entries:
        error = entry.error or UNKNOWN
        yield FailureView(
            kind="dataset",
            id=entry.id,
            name=entry.name,
            at=entry.changed_at or entry.created_at,
            code=error.code,
            message=_one_line(": ".join(filter(None, (error.title, error.detail)))),
            links=WorkLinks(self=dataset_path(entry.id)),
        )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MAX_MESSAGE]


def _path(work: Adaptation | MetaRun) -> str:
    return adaptation_path(work.id) if isinstance(work, Adaptation) else meta_run_path(work.id)
