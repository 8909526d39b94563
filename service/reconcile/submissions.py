"""Hands jobs to the cluster, and remembers which it has not taken.

A submission that fails costs no attempt: its id is that of the attempt, so it can be made again without starting
anything twice. What is remembered is of this process; a successor that finds no job begins with a new attempt.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from service.attempt_files import Attempted, submission_id
from service.errors import ClusterUnavailableError
from service.ray.jobs import JobClient, JobReport, JobStatus
from service.reconcile.decisions import Untaken
from service.records.adaptations import AdaptationRecords
from service.records.meta_runs import MetaRunRecords

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Failed:
    """How often the cluster has not taken a job, and when: seconds since the epoch, by the database's clock."""

    number: int
    first_s: float
    last_s: float
    why: str


@dataclass(frozen=True)
class Submissions:
    """The submissions of one kind of work.

    Attributes:
        records: Of the work.
    """

    records: AdaptationRecords | MetaRunRecords
    _failed: dict[str, _Failed] = field(default_factory=dict, init=False, repr=False, compare=False)

    def submit(
        self, jobs: JobClient, work: Attempted, entrypoint: str, metadata: Mapping[str, str], *, now_s: float
    ) -> None:
        """Submit the job of the current attempt, which is recorded as running: so a job that runs is never forgotten.

        After an error the job may start all the same: whoever submits it again asks first whether the cluster knows it.

        Args:
            jobs: Of the cluster.
            work: Whose job it is.
            entrypoint: Its command.
            metadata: What the dashboard shows beside it.
            now_s: Seconds since the epoch, by the database's clock.

        Raises:
            ClusterUnavailableError: The cluster did not take it.
        """
        name = submission_id(work)
        try:
            jobs.submit(name, entrypoint, metadata)
        except ClusterUnavailableError as error:
            known = self._failed.get(name, _Failed(number=0, first_s=now_s, last_s=now_s, why=""))
            self._failed[name] = replace(known, number=known.number + 1, last_s=now_s, why=error.what)
            logger.warning("job=%s is not taken (%d): %s", name, known.number + 1, error)
            raise
        self._failed.pop(name, None)
        # The cluster may have taken so long that the attempt was given up.
        if not self.records.is_current(work.id, work.attempt):
            jobs.stop(name)

    def is_untaken(self, work: Attempted) -> bool:
        """Return whether the cluster has not taken the job of the current attempt yet."""
        return submission_id(work) in self._failed

    def untaken(self, work: Attempted, job: JobReport, *, now_s: float) -> Untaken | None:
        """Return that the cluster has not taken the job of the current attempt; None: it has, or nobody knows.

        Args:
            work: Whose job it is.
            job: How it is: one that the cluster knows was taken.
            now_s: Seconds since the epoch, by the database's clock.
        """
        name = submission_id(work)
        if job.status not in {JobStatus.MISSING, JobStatus.UNKNOWN}:
            self._failed.pop(name, None)
        known = self._failed.get(name)
        if known is None:
            return None
        return Untaken(
            number=known.number, first_age_s=now_s - known.first_s, last_age_s=now_s - known.last_s, why=known.why
        )

    def keep(self, works: Iterable[Attempted]) -> None:
        """Forget all but the current attempts of these."""
        for name in self._failed.keys() - {submission_id(work) for work in works}:
            del self._failed[name]
