"""Carries decisions out, one adaptation after the other."""

import logging
from dataclasses import dataclass, replace
from typing import Final

from service.attempts import AttemptFiles, entrypoint, metadata, submission_id
from service.cluster import Cluster
from service.errors import ClusterUnavailableError, InvalidAttemptFileError
from service.jobs import JobClient, JobReport, JobStatus, NoJobs
from service.reconcile.decide import (
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
        max_submitted: Jobs that may be submitted at once; None: half the cluster's CPUs, at least one.
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
            ClusterUnavailableError: The cluster cannot be reached; whatever needs no cluster was done all the same.
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
            num_free -= self._advance(adaptation, jobs, slot_free=num_free > 0, now_s=now_s)
        if unavailable is not None:
            raise unavailable

    def _num_slots(self) -> int:
        if self.max_submitted is not None:
            return self.max_submitted
        try:
            return max(1, self.cluster.num_cpus() // 2)
        except ClusterUnavailableError:
            return 0

    def _advance(self, adaptation: Adaptation, jobs: JobClient, *, slot_free: bool, now_s: float) -> bool:
        """Take an adaptation's next step; return whether that took a slot."""
        try:
            seen = self._observe(adaptation, jobs, slot_free=slot_free, now_s=now_s)
            decision = decide(adaptation, seen, self.limits)
            self._execute(adaptation, decision, jobs)
        except InvalidAttemptFileError as error:
            self._move(adaptation, Change(state="FAILED", error=_unreadable(error)))
        except (StoreError, ClusterUnavailableError) as error:
            # One adaptation's trouble must not hold the others up; it is looked at again in the next step.
            logger.warning("adaptation=%s attempt=%d %s", adaptation.id, adaptation.attempt, error)
        return slot_free and adaptation.state == "QUEUED"

    def _observe(self, adaptation: Adaptation, jobs: JobClient, *, slot_free: bool, now_s: float) -> Observation:
        if adaptation.state == "QUEUED":
            return Observation(slot_free=slot_free)
        job = _report(jobs, adaptation)
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
                self._move(adaptation, Change(state="QUEUED", new_attempt=True, spent_s=spent_s))
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
        """Submit the attempt's job; recorded first, so that a job that runs is never forgotten."""
        files.write_request()
        if not self._move(adaptation, Change(state="RUNNING")):
            return  # cancelled meanwhile
        job_id = submission_id(adaptation)
        try:
            jobs.submit(job_id, entrypoint(self.store, adaptation), metadata(adaptation))
        except ClusterUnavailableError as error:
            if jobs.report(job_id).status == JobStatus.MISSING:
                # The cluster answers and does not know the job: the same attempt may be submitted again.
                logger.warning("adaptation=%s attempt=%d not submitted: %s", adaptation.id, adaptation.attempt, error)
                self._move(replace(adaptation, state="RUNNING"), Change(state="QUEUED"))

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


def _unreadable(error: InvalidAttemptFileError) -> Problem:
    return Problem(
        title="The adaptation's outcome cannot be read",
        status=500,
        detail=str(error),
        code=error.code,
        todo="Are the service and its jobs of the same version? Then post the adaptation again.",
    )
