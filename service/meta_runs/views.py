"""From records of meta-runs to what the API shows."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import quote

from service.adaptations.views import STARTING, artifact_views, job_links, place_in_queue
from service.errors import InvalidAttemptFileError
from service.meta_runs.attempts import MetaAttemptFiles
from service.priors.catalog import PRIORS
from service.ray.cluster import Cluster
from service.reading import Reading
from service.records.meta_runs import MetaRunRecords
from service.records.model import MetaRun
from service.schemas import SETTLED_META_STATES, ArtifactView, MetaRunLinks, MetaRunView
from workers.contracts.errors import StoreError
from workers.contracts.meta_runs import MetaProgress
from workers.store.protocol import Store

META_RUNS: Final = "/v1/meta-runs"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MetaRunViews:
    """Adds to a record what the store and the cluster know.

    Attributes:
        meta_runs: For meta-runs' places in the queue.
        store: For its progress.
        cluster: For the dashboard's address.
    """

    meta_runs: MetaRunRecords
    store: Store
    cluster: Cluster

    def view(self, meta_run: MetaRun) -> MetaRunView:
        """Return a meta-run as it stands now."""
        positions = self.meta_runs.positions([meta_run])
        return self._view(meta_run, positions, Reading(), with_progress=True)

    def listed(self, meta_runs: Sequence[MetaRun], reading: Reading | None = None) -> tuple[MetaRunView, ...]:
        """Return meta-runs as lists show them: of what has settled the store is not asked how far it came.

        Args:
            meta_runs: To show.
            reading: Of the answer that they are a part of; None: they are all of it.
        """
        positions, reading = self.meta_runs.positions(meta_runs), reading or Reading()
        return tuple(
            self._view(one, positions, reading, with_progress=one.state not in SETTLED_META_STATES) for one in meta_runs
        )

    def _view(
        self, meta_run: MetaRun, positions: Mapping[str, int], reading: Reading, *, with_progress: bool
    ) -> MetaRunView:
        progress = self._progress(meta_run, positions, reading) if with_progress else None
        return MetaRunView(
            id=meta_run.id,
            state=meta_run.state,
            attempt=meta_run.attempt,
            request=meta_run.request,
            priority=meta_run.priority,
            position=positions.get(meta_run.id),
            prior_id=meta_run.prior_id,
            created_at=meta_run.created_at,
            started_at=meta_run.started_at,
            finished_at=meta_run.finished_at,
            progress=progress,
            result=meta_run.result,
            error=meta_run.error,
            artifacts=meta_artifacts(meta_run),
            links=self._links(meta_run, reading),
        )

    def _links(self, meta_run: MetaRun, reading: Reading) -> MetaRunLinks:
        own = meta_run_path(meta_run.id)
        made = None if meta_run.result is None else meta_run.result.prior_id
        was_started = partial(reading.ask, MetaAttemptFiles(self.store, meta_run).was_started)
        job = job_links(meta_run, was_started, self.cluster, own)
        return MetaRunLinks(
            self=own,
            events=f"{own}/events",
            artifacts=f"{own}/artifacts",
            prior=None if made is None else f"{PRIORS}/{quote(made)}",
            **job,
        )

    def _progress(self, meta_run: MetaRun, positions: Mapping[str, int], reading: Reading) -> MetaProgress | None:
        if meta_run.state == "QUEUED":
            # One that was started between two questions waits no more: nothing is before it.
            return _waiting(meta_run, num_ahead=positions.get(meta_run.id, 0))
        try:
            progress = reading.ask(MetaAttemptFiles(self.store, meta_run).progress)
            return _starting(meta_run) if progress is None and meta_run.state == "RUNNING" else progress
        except (InvalidAttemptFileError, StoreError) as error:
            # Of a newer job than this service, or the store is down: what the record holds can be told all the same.
            logger.warning("meta_run=%s progress cannot be read: %s", meta_run.id, error)
            return None


def meta_artifacts(meta_run: MetaRun) -> tuple[ArtifactView, ...]:
    """Return what can be downloaded; empty until a job of it has finished."""
    return artifact_views(meta_run.artifacts, f"{meta_run_path(meta_run.id)}/artifacts")


def meta_run_path(meta_run_id: str) -> str:
    """Return the path of a meta-run, from the service's root."""
    return f"{META_RUNS}/{meta_run_id}"


def _starting(meta_run: MetaRun) -> MetaProgress:
    return MetaProgress(
        phase="starting",
        num_steps=meta_run.request.config.num_steps,
        message=STARTING,
        updated_at=(meta_run.started_at or meta_run.created_at).timestamp(),
    )


def _waiting(meta_run: MetaRun, *, num_ahead: int) -> MetaProgress:
    again = f"attempt {meta_run.attempt}, which goes on from the last checkpoint; " if meta_run.attempt > 1 else ""
    return MetaProgress(
        phase="starting",
        num_steps=meta_run.request.config.num_steps,
        message=f"{again}{place_in_queue(num_ahead)}",
        updated_at=meta_run.created_at.timestamp(),
    )
