"""Carries out what was decided about one adaptation."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from service.adaptations.attempts import AttemptFiles, entrypoint, metadata
from service.attempt_files import submission_id
from service.errors import InvalidAttemptFileError
from service.ray.jobs import JobClient, JobReport
from service.reconcile.decide import KIND, AdaptationObservation, AskToEnd, Decision, Succeed, decide
from service.reconcile.decisions import UNSEEN, Cancel, Fail, Limits, Retry, Start, StopJob, Submit, Wait
from service.reconcile.jobs import job_of, stop_late, stop_living, unreadable
from service.reconcile.submissions import Submissions
from service.records.adaptations import AdaptationRecords
from service.records.model import Adaptation
from service.records.transitions import Change
from workers.store.protocol import Store

START_TIMEOUT_S: Final = 30.0
"""Ray starts a job's workers in 3 to 15 s where there is room for them."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AdaptationSteps:
    """Takes adaptations one step further.

    Attributes:
        records: Of adaptations.
        store: Where attempts leave their files.
        limits: How patient to be.
    """

    records: AdaptationRecords
    store: Store
    limits: Limits
    _running_since: dict[tuple[str, int], float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def watch(self, adaptations: Iterable[Adaptation], *, now_s: float) -> None:
        """Note since when the current attempt of each has been seen running; those that are not named are forgotten.

        The record knows only when the first attempt began. One whose job the cluster has not taken does not run yet.
        """
        adaptations = tuple(adaptations)
        self._submissions.keep(adaptations)
        started = [one for one in adaptations if one.state == "RUNNING" and not self._submissions.is_untaken(one)]
        running = [(one.id, one.attempt) for one in started]
        since = {attempt: self._running_since.get(attempt, now_s) for attempt in running}
        self._running_since.clear()
        self._running_since.update(since)

    def advance(self, adaptation: Adaptation, jobs: JobClient, *, now_s: float) -> None:
        """Take the next step of an adaptation that has not ended; one that waits has a slot.

        Args:
            adaptation: As recorded.
            jobs: Of the cluster.
            now_s: Seconds since the epoch, by the database's clock.

        Raises:
            StoreError: The store cannot be reached.
            ClusterUnavailableError: The cluster refused something.
        """
        stop_late(jobs, adaptation)
        job = UNSEEN if adaptation.state == "QUEUED" else job_of(jobs, adaptation)
        try:
            seen = self._observe(adaptation, job, now_s=now_s)
            decision = decide(adaptation, seen, self.limits)
            if isinstance(decision, Fail | Cancel):
                stop_living(jobs, adaptation, job)
            self._execute(adaptation, decision, jobs, now_s=now_s)
        except InvalidAttemptFileError as error:
            stop_living(jobs, adaptation, job)
            problem = unreadable(KIND, error, todo="post the adaptation again")
            self._move(adaptation, Change(state="FAILED", error=problem))

    def is_starved(self, adaptation: Adaptation, *, now_s: float) -> bool:
        """Return whether the job of an adaptation has waited for its workers for longer than that takes with room.

        It counts from when `watch` first saw the current attempt.

        Raises:
            StoreError: The store cannot be reached.
        """
        since_s = self._running_since.get((adaptation.id, adaptation.attempt))
        if since_s is None or now_s - since_s < START_TIMEOUT_S:
            return False
        return not AttemptFiles(self.store, adaptation).has_begun()

    @cached_property
    def _submissions(self) -> Submissions:
        return Submissions(self.records)

    def _observe(self, adaptation: Adaptation, job: JobReport, *, now_s: float) -> AdaptationObservation:
        if adaptation.state == "QUEUED":
            return AdaptationObservation(slot_free=True)
        files = AttemptFiles(self.store, adaptation)
        untaken = self._submissions.untaken(adaptation, job, now_s=now_s)
        asked_at = adaptation.cancel_requested_at
        return AdaptationObservation(
            job=job,
            manifest=files.manifest(),
            failure=files.failure(),
            cancel_written=adaptation.state == "CANCELLING" and files.cancel_written(),
            asked_age_s=0.0 if asked_at is None else now_s - asked_at.timestamp(),
            # A job that has begun was taken, whatever the cluster answered.
            untaken=None if untaken is None or files.has_begun() else untaken,
            age_s=0.0 if adaptation.started_at is None else now_s - adaptation.started_at.timestamp(),
        )

    def _execute(self, adaptation: Adaptation, decision: Decision, jobs: JobClient, *, now_s: float) -> None:
        files = AttemptFiles(self.store, adaptation)
        match decision:
            case Wait():
                pass
            case Start():
                files.write_request()
                if self._move(adaptation, Change(state="RUNNING")):  # else it was cancelled meanwhile
                    self._submit(adaptation, jobs, now_s=now_s)
            case Submit():
                self._submit(adaptation, jobs, now_s=now_s)
            case Retry(reason, counts):
                logger.warning("adaptation=%s attempt=%d lost: %s", adaptation.id, adaptation.attempt, reason)
                progress = files.progress()
                spent_s = 0.0 if progress is None else progress.elapsed_s
                if self._move(adaptation, Change(state="QUEUED", spent_s=spent_s, counts=counts)):
                    files.write_cancel()  # a job that the cluster takes late ends by itself
            case Succeed(manifest):
                self._move(adaptation, Change(state="SUCCEEDED", result=files.result(), artifacts=manifest.artifacts))
            case Fail(problem):
                self._move(adaptation, Change(state="FAILED", error=problem))
            case Cancel():
                files.write_cancel()  # as above
                self._move(adaptation, Change(state="CANCELLED"))
            case AskToEnd():
                files.write_cancel()
            case StopJob():
                jobs.stop(submission_id(adaptation))

    def _submit(self, adaptation: Adaptation, jobs: JobClient, *, now_s: float) -> None:
        about = metadata(adaptation, home=self.records.home)
        self._submissions.submit(jobs, adaptation, entrypoint(self.store, adaptation), about, now_s=now_s)

    def _move(self, adaptation: Adaptation, change: Change) -> bool:
        moved = self.records.change(adaptation, change)
        if moved:
            logger.info(
                "adaptation=%s attempt=%d %s -> %s", adaptation.id, adaptation.attempt, adaptation.state, change.state
            )
        return moved
