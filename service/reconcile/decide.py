"""What to do about one adaptation, given what can be seen of it. Pure: no clock, no store, no cluster.

The order of facts: what the attempt left in the store counts first (a manifest even over a cancel), and only where it
left nothing does it matter whether its job lives.
"""

from dataclasses import dataclass
from typing import Final

from service.jobs import JobReport, JobStatus
from service.records.model import Adaptation
from service.schemas import Problem
from workers.contracts.adaptations import Failure
from workers.contracts.artifacts import Manifest
from workers.contracts.errors import CancelledError

ALIVE: Final = frozenset({JobStatus.PENDING, JobStatus.RUNNING})
MESSAGE_LINES: Final = 20
UNSEEN: Final = JobReport(status=JobStatus.MISSING)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What can be seen of the current attempt.

    Attributes:
        manifest: The list of its artifacts, if it exists.
        failure: What its `failure.json` says, if it exists.
        job: How its job is. Seen before the files, so that whatever a finished job wrote is seen too.
        slot_free: Whether another job may be submitted.
        cancel_written: Whether its job was asked to end.
        cancel_age_s: Seconds since the cancel was asked for; 0 where it was not.
    """

    manifest: Manifest | None = None
    failure: Failure | None = None
    job: JobReport = UNSEEN
    slot_free: bool = False
    cancel_written: bool = False
    cancel_age_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How patient to be."""

    max_attempts: int
    cancel_grace_s: float


@dataclass(frozen=True)
class Wait:
    """Nothing is to be done now."""


@dataclass(frozen=True)
class Start:
    """Submit the attempt's job."""


@dataclass(frozen=True)
class Retry:
    """Count the attempt up and queue it again, because of this."""

    reason: str


@dataclass(frozen=True)
class Succeed:
    """Take the result from the store; these files belong to it."""

    manifest: Manifest


@dataclass(frozen=True)
class Fail:
    """It has failed for good."""

    problem: Problem


@dataclass(frozen=True)
class Cancel:
    """It has ended because it was asked to."""


@dataclass(frozen=True)
class AskToEnd:
    """Tell the job, by its control file, to end by itself."""


@dataclass(frozen=True)
class StopJob:
    """Have the cluster end the job's process."""


Decision = Wait | Start | Retry | Succeed | Fail | Cancel | AskToEnd | StopJob


def decide(adaptation: Adaptation, seen: Observation, limits: Limits) -> Decision:
    """Return the one next step for an adaptation that has not ended.

    Args:
        adaptation: As recorded: QUEUED, RUNNING or CANCELLING.
        seen: What can be seen of its current attempt.
        limits: How patient to be.
    """
    if adaptation.state == "QUEUED":
        return Start() if seen.slot_free else Wait()
    if seen.manifest is not None:
        return Succeed(seen.manifest)
    if seen.failure is not None:
        return Cancel() if seen.failure.code == CancelledError.code else Fail(_failed(seen.failure))
    if adaptation.state == "CANCELLING":
        return _cancelling(seen, limits)
    if seen.job.status in ALIVE or seen.job.status == JobStatus.UNKNOWN:
        return Wait()
    if adaptation.attempt < limits.max_attempts:
        return Retry(_what_happened(seen.job))
    return Fail(_lost(adaptation, seen.job))


def _cancelling(seen: Observation, limits: Limits) -> Decision:
    if seen.job.status == JobStatus.UNKNOWN:
        return Wait() if seen.cancel_written else AskToEnd()
    if seen.job.status not in ALIVE:
        return Cancel()
    if seen.job.status == JobStatus.PENDING or seen.cancel_age_s >= limits.cancel_grace_s:
        return StopJob()
    return Wait() if seen.cancel_written else AskToEnd()


def _failed(failure: Failure) -> Problem:
    got = f": got {failure.got}" if failure.got else ""
    expected = f"; expected {failure.expected}" if failure.expected else ""
    return Problem(
        title="The adaptation failed",
        status=422,
        detail=f"{failure.what}{got}{expected}",
        code=failure.code,
        todo=failure.todo,
    )


def _lost(adaptation: Adaptation, job: JobReport) -> Problem:
    return Problem(
        title="The adaptation's job was lost",
        status=500,
        detail=f"Attempt {adaptation.attempt} was the last one: {_what_happened(job)}.",
        code="attempts_exhausted",
        todo="Look into the job's log in the Ray dashboard, then post the adaptation again.",
        errors=tuple(job.message.splitlines()[-MESSAGE_LINES:]),
    )


def _what_happened(job: JobReport) -> str:
    if job.status == JobStatus.MISSING:
        return "the cluster does not know the job, so it was restarted or the job never reached it"
    return f"the job ended as {job.status} and left neither a manifest nor a failure"
