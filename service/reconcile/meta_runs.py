"""Carries out what was decided about one meta-run."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from service.attempt_files import submission_id
from service.errors import ConflictError, InvalidAttemptFileError, NotFoundError
from service.http.problems import problem_of
from service.meta_runs.attempts import MetaAttemptFiles, entrypoint, metadata
from service.meta_runs.intake import check_use
from service.ray.jobs import ALIVE, JobClient, JobReport, JobStatus
from service.reconcile.decide_meta_run import (
    KIND,
    Finish,
    MetaDecision,
    MetaObservation,
    Stop,
    Tell,
    decide_meta_run,
)
from service.reconcile.decisions import (
    UNSEEN,
    Cancel,
    Fail,
    Limits,
    Retry,
    Start,
    StopJob,
    Submit,
    Wait,
)
from service.reconcile.jobs import job_of, stop_late, stop_living, unreadable
from service.reconcile.losses import Past, num_in_a_row
from service.reconcile.submissions import Submissions
from service.records.datasets import DatasetRecords
from service.records.meta_runs import MetaRunRecords
from service.records.model import MetaRun
from service.records.transitions import MetaChange
from service.schemas import Problem
from workers.contracts.adaptations import Failure
from workers.contracts.errors import CancelledError
from workers.store.protocol import Store

MAY_LIVE: Final = ALIVE | {JobStatus.UNKNOWN}
STOPPED: Final = Failure(code=CancelledError.code, what="the meta-run was told to end, and its job left nothing")
"""Left in the place of a job that said nothing, so that no attempt after a resume counts this one as lost."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeepCap:
    """The worker cap stays as the control file says: nobody knows a better one now."""


KEEP_CAP: Final = KeepCap()
Cap = int | None | KeepCap


@dataclass(frozen=True, kw_only=True)
class MetaRunSteps:
    """Takes meta-runs one step further.

    Attributes:
        records: Of meta-runs.
        datasets: Records of datasets, which say whether they may still be learned from.
        store: Where attempts leave their files.
        limits: How patient to be.
    """

    records: MetaRunRecords
    datasets: DatasetRecords
    store: Store
    limits: Limits

    def watch(self, meta_runs: Iterable[MetaRun]) -> None:
        """Forget what was noted of attempts that are not the current ones of these."""
        self._submissions.keep(meta_runs)

    def advance(self, meta_run: MetaRun, jobs: JobClient, *, now_s: float, cap: Cap) -> None:
        """Take the next step of a meta-run that has not settled; one that waits has a slot.

        Args:
            meta_run: As recorded.
            jobs: Of the cluster.
            now_s: Seconds since the epoch, by the database's clock.
            cap: Most workers that it may have now; None: no cap but its own.

        Raises:
            StoreError: The store cannot be reached.
            ClusterUnavailableError: The cluster refused something.
        """
        stop_late(jobs, meta_run)
        job = UNSEEN if meta_run.state == "QUEUED" else job_of(jobs, meta_run)
        try:
            seen = self._observe(meta_run, job, now_s=now_s, cap=cap)
            decision = decide_meta_run(meta_run, seen, self.limits)
            if isinstance(decision, Fail | Stop | Cancel):
                stop_living(jobs, meta_run, job)
            self._execute(meta_run, decision, jobs, now_s=now_s)
        except InvalidAttemptFileError as error:
            stop_living(jobs, meta_run, job)
            self._fail(meta_run, unreadable(KIND, error, todo="resume the meta-run"))

    @cached_property
    def _submissions(self) -> Submissions:
        return Submissions(self.records)

    def _observe(self, meta_run: MetaRun, job: JobReport, *, now_s: float, cap: Cap) -> MetaObservation:
        if meta_run.state == "QUEUED":
            return MetaObservation(slot_free=True, refusal=self._refusal(meta_run))
        files = MetaAttemptFiles(self.store, meta_run)
        manifest, failure, control = files.manifest(), files.failure(), files.control()
        if isinstance(cap, KeepCap):
            cap = None if control is None else control.max_workers
        untaken = self._submissions.untaken(meta_run, job, now_s=now_s)
        is_lost = manifest is None and failure is None and job.status not in MAY_LIVE
        asked_at = meta_run.asked_at
        return MetaObservation(
            job=job,
            manifest=manifest,
            failure=failure,
            control=control,
            max_workers=cap,
            asked_age_s=0.0 if asked_at is None else now_s - asked_at.timestamp(),
            # A job that has begun was taken, whatever the cluster answered.
            untaken=None if untaken is None or files.has_begun() else untaken,
            num_in_a_row=num_in_a_row(self._attempts(meta_run)) if is_lost else 0,
        )

    def _refusal(self, meta_run: MetaRun) -> Problem | None:
        """Return why no further attempt may learn from its datasets, in the words of the intake."""
        try:
            check_use(meta_run.request, self.datasets, owner=meta_run.owner)
        except (ConflictError, NotFoundError) as error:
            return problem_of(error)
        return None

    def _attempts(self, meta_run: MetaRun) -> Iterator[Past]:
        """Yield what the attempts have left, from the current one back to the first."""
        most = self.limits.max_attempts + self.limits.max_lost + 1  # beyond that, another one does not matter
        for number in range(meta_run.attempt, max(0, meta_run.attempt - most), -1):
            files = MetaAttemptFiles(self.store, meta_run, number)
            # One that waited until it was stopped, or until its datasets were withdrawn, was never there to be lost.
            ended = not files.was_started() or files.has_ended()
            try:
                progress = files.progress()
            except InvalidAttemptFileError as error:  # of another version; it says nothing of this attempt
                logger.warning("meta_run=%s attempt %d cannot be read: %s", meta_run.id, number, error)
                progress = None
            step = None if progress is None else progress.checkpoint_step
            yield Past(kept=None if progress is None or step is None else step + progress.num_tried, ended=ended)

    def _execute(self, meta_run: MetaRun, decision: MetaDecision, jobs: JobClient, *, now_s: float) -> None:
        files = MetaAttemptFiles(self.store, meta_run)
        match decision:
            case Wait():
                pass
            case Start():
                self._start(meta_run, files, jobs, now_s=now_s)
            case Submit():
                self._submit(meta_run, jobs, now_s=now_s)
            case Tell(control):
                files.write_control(control)
                logger.info("meta_run=%s attempt=%d told %s", meta_run.id, meta_run.attempt, control.model_dump_json())
            case StopJob():
                jobs.stop(submission_id(meta_run))
            case Retry(reason, counts, afresh):
                logger.warning("meta_run=%s attempt=%d lost: %s", meta_run.id, meta_run.attempt, reason)
                change = MetaChange(state="QUEUED", spent_s=_spent_s(files), counts=counts, afresh=afresh)
                self._move(meta_run, change)
            case Finish(manifest, state):
                change = MetaChange(
                    state=state,
                    spent_s=_spent_s(files),
                    result=files.result(manifest),
                    artifacts=manifest.artifacts,
                )
                self._move(meta_run, change)
            case Stop():
                files.write_end(STOPPED)
                self._move(meta_run, MetaChange(state="STOPPED", spent_s=_spent_s(files)))
            case Cancel():
                self._move(meta_run, MetaChange(state="CANCELLED", spent_s=_spent_s(files)))
            case Fail(problem):
                self._fail(meta_run, problem)

    def _start(self, meta_run: MetaRun, files: MetaAttemptFiles, jobs: JobClient, *, now_s: float) -> None:
        files.write_request()
        if self._move(meta_run, MetaChange(state="RUNNING")):
            self._submit(meta_run, jobs, now_s=now_s)
        elif not self.records.is_current(meta_run.id, meta_run.attempt):  # it was stopped or cancelled meanwhile
            files.write_end(STOPPED)

    def _submit(self, meta_run: MetaRun, jobs: JobClient, *, now_s: float) -> None:
        about = metadata(meta_run, home=self.records.home)
        self._submissions.submit(jobs, meta_run, entrypoint(self.store, meta_run), about, now_s=now_s)

    def _fail(self, meta_run: MetaRun, problem: Problem) -> None:
        files = MetaAttemptFiles(self.store, meta_run)
        files.write_end(Failure(code=problem.code, what=problem.detail or problem.title, todo=problem.todo))
        self._move(meta_run, MetaChange(state="FAILED", spent_s=_spent_s(files), error=problem))

    def _move(self, meta_run: MetaRun, change: MetaChange) -> bool:
        try:
            moved = self.records.change(meta_run, change)
        except ConflictError as error:
            # Its prior has a name that somebody else has given away while it ran.
            return self._move(meta_run, MetaChange(state="FAILED", spent_s=change.spent_s, error=problem_of(error)))
        if moved:
            logger.info("meta_run=%s attempt=%d %s -> %s", meta_run.id, meta_run.attempt, meta_run.state, change.state)
        return moved


def _spent_s(files: MetaAttemptFiles) -> float:
    try:
        progress = files.progress()
    except InvalidAttemptFileError as error:
        # What came out counts all the same.
        logger.warning("the seconds of an attempt are not known: %s", error)
        return 0.0
    return 0.0 if progress is None else progress.elapsed_s
