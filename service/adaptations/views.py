"""From records to what the API shows."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypedDict

from service.adaptations.attempts import AttemptFiles
from service.attempt_files import submission_id
from service.errors import InvalidAttemptFileError
from service.ray.cluster import Cluster
from service.reading import Reading
from service.records.adaptations import AdaptationRecords
from service.records.model import Adaptation, MetaRun
from service.schemas import FINAL_STATES, AdaptationView, ArtifactView, Links
from workers.contracts.adaptations import Progress
from workers.contracts.artifacts import Artifact
from workers.contracts.errors import StoreError
from workers.store.protocol import Store

ADAPTATIONS = "/v1/adaptations"
STARTING: Final = "Ray starts the job and its workers"
"""What is to be said of a job that has said nothing yet: most of a short adaptation's wait."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Views:
    """Adds to a record what the store and the cluster know.

    Attributes:
        adaptations: For adaptations' places in the queue.
        store: For its progress.
        cluster: For the dashboard's address.
    """

    adaptations: AdaptationRecords
    store: Store
    cluster: Cluster

    def adaptation(self, adaptation: Adaptation) -> AdaptationView:
        """Return an adaptation as it stands now."""
        positions = self.adaptations.positions([adaptation])
        return self._view(adaptation, positions, Reading(), with_progress=True)

    def listed(self, adaptations: Sequence[Adaptation], reading: Reading | None = None) -> tuple[AdaptationView, ...]:
        """Return adaptations as lists show them: of what has ended the store is not asked how far it came.

        Args:
            adaptations: To show.
            reading: Of the answer that they are a part of; None: they are all of it.
        """
        positions, reading = self.adaptations.positions(adaptations), reading or Reading()
        return tuple(
            self._view(one, positions, reading, with_progress=one.state not in FINAL_STATES) for one in adaptations
        )

    def _view(
        self, adaptation: Adaptation, positions: Mapping[str, int], reading: Reading, *, with_progress: bool
    ) -> AdaptationView:
        progress = self._progress(adaptation, positions, reading) if with_progress else None
        return AdaptationView(
            id=adaptation.id,
            state=adaptation.state,
            attempt=adaptation.attempt,
            request=adaptation.request,
            priority=adaptation.priority,
            position=positions.get(adaptation.id),
            created_at=adaptation.created_at,
            started_at=adaptation.started_at,
            finished_at=adaptation.finished_at,
            progress=progress,
            best=None if progress is None else progress.best,
            result=adaptation.result,
            error=adaptation.error,
            artifacts=adaptation_artifacts(adaptation),
            links=self._links(adaptation, reading),
        )

    def _links(self, adaptation: Adaptation, reading: Reading) -> Links:
        own = adaptation_path(adaptation.id)
        was_started = partial(reading.ask, AttemptFiles(self.store, adaptation).was_started)
        job = job_links(adaptation, was_started, self.cluster, own)
        return Links(self=own, artifacts=f"{own}/artifacts", **job)

    def _progress(self, adaptation: Adaptation, positions: Mapping[str, int], reading: Reading) -> Progress | None:
        if adaptation.state == "QUEUED":
            # One that was started between two questions waits no more: nothing is before it.
            return _waiting(adaptation, num_ahead=positions.get(adaptation.id, 0))
        try:
            progress = reading.ask(AttemptFiles(self.store, adaptation).progress)
            return _starting(adaptation) if progress is None and adaptation.state == "RUNNING" else progress
        except (InvalidAttemptFileError, StoreError) as error:
            # Of a newer job than this service, or the store is down: what the record holds can be told all the same.
            logger.warning("adaptation=%s progress cannot be read: %s", adaptation.id, error)
            return None


def adaptation_artifacts(adaptation: Adaptation) -> tuple[ArtifactView, ...]:
    """Return what can be downloaded; empty until the adaptation has succeeded."""
    return artifact_views(adaptation.artifacts, f"{adaptation_path(adaptation.id)}/artifacts")


def artifact_views(artifacts: Iterable[Artifact], folder: str) -> tuple[ArtifactView, ...]:
    """Return files with the paths to download them from, which lie under `folder`."""
    return tuple(ArtifactView(**artifact.model_dump(), href=f"{folder}/{artifact.name}") for artifact in artifacts)


class JobLinks(TypedDict):
    """Where to look at the current attempt's job, as far as there is one: see `Links`."""

    job_id: str | None
    dashboard: str | None
    log: str | None
    actors: str | None


def job_links(work: Adaptation | MetaRun, was_started: Callable[[], bool], cluster: Cluster, own: str) -> JobLinks:
    """Return where to look at the current attempt's job.

    Args:
        work: Whose job it is.
        was_started: Of the attempt's files: see `has_job`.
        cluster: For the dashboard's address.
        own: Path of the work, from the service's root.
    """
    if not has_job(work, was_started):
        return JobLinks(job_id=None, dashboard=None, log=None, actors=None)
    job_id, url = submission_id(work), cluster.dashboard_url
    page = None if url is None else job_page(url, job_id)
    return JobLinks(job_id=job_id, dashboard=page, log=f"{own}/log", actors=f"{own}/actors")


def job_page(dashboard_url: str, job_id: str) -> str:
    """Return the address of a job's page in the Ray dashboard, which ends with its log."""
    return f"{dashboard_url}/#/jobs/{job_id}"


def place_in_queue(num_ahead: int) -> str:
    """Return in words how many are served before."""
    return "next in the queue" if num_ahead == 0 else f"{num_ahead} ahead in the queue"


def adaptation_path(adaptation_id: str) -> str:
    """Return the path of an adaptation, from the service's root."""
    return f"{ADAPTATIONS}/{adaptation_id}"


def has_job(work: Adaptation | MetaRun, was_started: Callable[[], bool]) -> bool:
    """Return whether the current attempt's job was submitted; `started_at` tells it of the first attempt alone.

    Args:
        work: Whose job it is.
        was_started: Asks the store, where the record alone does not tell it.
    """
    if work.started_at is None or work.state == "QUEUED":
        return False
    if work.attempt == 1 or work.finished_at is None:
        return True
    try:  # a later attempt may have ended while it waited
        return was_started()
    except StoreError as error:
        logger.warning("work=%s attempt=%d is shown without its job: %s", work.id, work.attempt, error)
        return False


def _starting(adaptation: Adaptation) -> Progress:
    return Progress(
        phase="starting",
        fraction=0.0,
        elapsed_s=0.0,
        message=STARTING,
        updated_at=(adaptation.started_at or adaptation.created_at).timestamp(),
    )


def _waiting(adaptation: Adaptation, *, num_ahead: int) -> Progress:
    again = f"attempt {adaptation.attempt}, as the one before was lost; " if adaptation.attempt > 1 else ""
    return Progress(
        phase="starting",
        fraction=0.0,
        elapsed_s=0.0,
        message=f"{again}{place_in_queue(num_ahead)}",
        updated_at=adaptation.created_at.timestamp(),
    )
