"""Carries decisions out, one adaptation after the other."""

import logging
from dataclasses import dataclass
from typing import Final

from service.attempts import AttemptFiles, entrypoint, metadata, submission_id
from service.cluster import Cluster
from service.errors import ClusterUnavailableError, InvalidAttemptFileError
from service.jobs import JobClient, JobReport, JobStatus, NoJobs
from service.reconcile.decide import (
    ALIVE,
    UNSEEN,
    AskToEnd,
    Cancel,
    Decision,
    Fail,
    Limits,
    Observation,
    Retry,
    Start,
    StopJob,
    Succeed,
    Wait,
    decide,
)
from service.records.adaptations import AdaptationRecords
from service.records.lease import Lease
from service.records.model import Adaptation
from service.records.transitions import Change
from service.schemas import AdaptationState, Problem
from workers.adapt.plan import MAX_CPUS_PER_WORKER
from workers.contracts.errors import StoreError
from workers.store.protocol import Store

SUBMITTED: Final[frozenset[AdaptationState]] = frozenset({"RUNNING", "CANCELLING"})

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reconciler:
    """Brings what is recorded and what is real together.

    Attributes:
        adaptations: The records.
        store: Where attempts leave their files.
        cluster: Where jobs run.
        lease: The right to act.
        limits: How patient to be.
        max_submitted: Jobs that may be submitted at once; None: as many as the cluster has CPUs for, at least one.
    """

    adaptations: AdaptationRecords
    store: Store
    cluster: Cluster
    lease: Lease
    limits: Limits
    max_submitted: int | None

    def step(self) -> None:
        """Look at every adaptation that has not ended and take its next step; nothing if another process acts.

        Raises:
            ClusterUnavailableError: The cluster cannot be reached, or refused something; all the rest was done.
        """
        if not self.lease.acquire():
            return
        try:
            jobs, unavailable = self.cluster.connect(), None
        except ClusterUnavailableError as error:
            jobs, unavailable = NoJobs(error), error
        unfinished = self.adaptations.unfinished()
        num_slots = self._num_slots() if unavailable is None and unfinished else 0
        num_free = num_slots - sum(adaptation.state in SUBMITTED for adaptation in unfinished)
        now_s = self.adaptations.now()
        for adaptation in unfinished:
            if adaptation.state == "QUEUED" and num_free <= 0:
                continue
            if not self.lease.acquire():
                return  # a step may take longer than the lease lasts
            num_free -= adaptation.state == "QUEUED"
            # One adaptation's trouble must not hold the others up; it is looked at again in the next step.
            try:
                self._advance(adaptation, jobs, now_s=now_s)
            except StoreError as error:
                logger.warning("adaptation=%s attempt=%d %s", adaptation.id, adaptation.attempt, error)
            except ClusterUnavailableError as error:
                unavailable = error
        if unavailable is not None:
            raise unavailable

    def _num_slots(self) -> int:
        if self.max_submitted is not None:
            return self.max_submitted
        try:
            return max(1, self.cluster.num_cpus() // MAX_CPUS_PER_WORKER)
        except ClusterUnavailableError:
            return 0

    def _advance(self, adaptation: Adaptation, jobs: JobClient, *, now_s: float) -> None:
        """Take the next step of an adaptation that has a slot."""
        job = UNSEEN if adaptation.state == "QUEUED" else _report(jobs, adaptation)
        try:
            seen = self._observe(adaptation, job, now_s=now_s)
            decision = decide(adaptation, seen, self.limits)
            if isinstance(decision, Fail | Cancel):
                _stop_living(jobs, adaptation, job)
            self._execute(adaptation, decision, jobs)
        except InvalidAttemptFileError as error:
            _stop_living(jobs, adaptation, job)
            self._move(adaptation, Change(state="FAILED", error=_unreadable(error)))

    def _observe(self, adaptation: Adaptation, job: JobReport, *, now_s: float) -> Observation:
        if adaptation.state == "QUEUED":
            return Observation(slot_free=True)
        files = AttemptFiles(self.store, adaptation)
        asked_at = adaptation.cancel_requested_at
        return Observation(
            job=job,
            manifest=files.manifest(),
            failure=files.failure(),
            cancel_written=adaptation.state == "CANCELLING" and files.cancel_written(),
            cancel_age_s=0.0 if asked_at is None else now_s - asked_at.timestamp(),
        )

    def _execute(self, adaptation: Adaptation, decision: Decision, jobs: JobClient) -> None:
        files = AttemptFiles(self.store, adaptation)
        match decision:
            case Wait():
                pass
            case Start():
                self._start(adaptation, files, jobs)
            case Retry(reason):
                logger.warning("adaptation=%s attempt=%d lost: %s", adaptation.id, adaptation.attempt, reason)
                progress = files.progress()
                spent_s = 0.0 if progress is None else progress.elapsed_s
                self._move(adaptation, Change(state="QUEUED", spent_s=spent_s))
            case Succeed(manifest):
                self._move(adaptation, Change(state="SUCCEEDED", result=files.result(), artifacts=manifest.artifacts))
            case Fail(problem):
                self._move(adaptation, Change(state="FAILED", error=problem))
            case Cancel():
                self._move(adaptation, Change(state="CANCELLED"))
            case AskToEnd():
                files.write_cancel()
            case StopJob():
                jobs.stop(submission_id(adaptation))

    def _start(self, adaptation: Adaptation, files: AttemptFiles, jobs: JobClient) -> None:
        """Submit the attempt's job; recorded first, so that a job that runs is never forgotten.

        After an error the job may start all the same: the next step finds it, or counts the attempt as lost.
        """
        files.write_request()
        if self._move(adaptation, Change(state="RUNNING")):  # else it was cancelled meanwhile
            jobs.submit(submission_id(adaptation), entrypoint(self.store, adaptation), metadata(adaptation))

    def _move(self, adaptation: Adaptation, change: Change) -> bool:
        moved = self.adaptations.change(adaptation, change)
        if moved:
            logger.info(
                "adaptation=%s attempt=%d %s -> %s", adaptation.id, adaptation.attempt, adaptation.state, change.state
            )
        return moved


def _report(jobs: JobClient, adaptation: Adaptation) -> JobReport:
    try:
        return jobs.report(submission_id(adaptation))
    except ClusterUnavailableError as error:
        return JobReport(status=JobStatus.UNKNOWN, message=str(error))


def _stop_living(jobs: JobClient, adaptation: Adaptation, job: JobReport) -> None:
    """Stop a job that lives although its attempt is decided: one of its workers may hang, and hold its CPUs."""
    if job.status in ALIVE:
        jobs.stop(submission_id(adaptation))


def _unreadable(error: InvalidAttemptFileError) -> Problem:
    return Problem(
        title="The adaptation's outcome cannot be read",
        status=500,
        detail=str(error),
        code=error.code,
        todo="Are the service and its jobs of the same version? Then post the adaptation again.",
    )
