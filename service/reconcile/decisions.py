"""What the decisions about adaptations and about meta-runs have in common. Pure."""

from dataclasses import dataclass
from typing import Final, TypeVar

from service.attempt_files import Attempted
from service.jobs import ALIVE, JobReport, JobStatus
from service.schemas import Problem
from workers.contracts.adaptations import Failure

MESSAGE_LINES: Final = 20
UNSEEN: Final = JobReport(status=JobStatus.MISSING)
EXHAUSTED: Final = "attempts_exhausted"

Over = TypeVar("Over")
Ask = TypeVar("Ask")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How patient to be.

    Attributes:
        max_attempts: Attempts before work whose job keeps failing without a word counts as failed.
        cancel_grace_s: Seconds that a job has to end by itself once it was asked to cancel.
        stop_grace_s: Seconds that the job of a meta-run has to publish its prior once it was asked to stop.
        missing_s: Seconds beyond its budget for which an adaptation is begun again, whatever the number of its
            attempts, because the cluster does not know its job: a cluster that was lost is not the job's fault.
        max_lost: Attempts that may be lost in that way before they count after all: it may be the job that ends its
            cluster. Of a meta-run, in a row without a newer checkpoint.
    """

    max_attempts: int
    cancel_grace_s: float
    stop_grace_s: float
    missing_s: float = 3600.0
    max_lost: int = 10


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What can be seen of the current attempt, whatever its work is.

    Attributes:
        failure: What its `failure.json` says, if it exists.
        job: How its job is. Seen before the files, so that whatever a finished job wrote is seen too.
        slot_free: Whether another job may be submitted.
        asked_age_s: Seconds since it was asked to end; 0 where it was not.
    """

    failure: Failure | None = None
    job: JobReport = UNSEEN
    slot_free: bool = False
    asked_age_s: float = 0.0


@dataclass(frozen=True)
class Wait:
    """Nothing is to be done now."""


@dataclass(frozen=True)
class Start:
    """Submit the attempt's job."""


@dataclass(frozen=True)
class Retry:
    """Queue it again as a new attempt, because of this.

    Attributes:
        counts: Whether the old one had its chance.
        afresh: Whether those before it no longer count, because it had come further.
    """

    reason: str
    counts: bool = True
    afresh: bool = False


@dataclass(frozen=True)
class Fail:
    """It has failed for good."""

    problem: Problem


@dataclass(frozen=True)
class Cancel:
    """It has ended because it was asked to."""


@dataclass(frozen=True)
class StopJob:
    """Have the cluster end the job's process."""


def ending(seen: Observation, *, ask: Ask, over: Over, grace_s: float) -> Ask | Over | StopJob:
    """Return the next step of work that was asked to end, and whose attempt has left nothing yet.

    Args:
        seen: What can be seen of the attempt.
        ask: How its job is asked, where it has to be.
        over: What follows once no job lives.
        grace_s: Seconds that the job has to end by itself.
    """
    if seen.job.status == JobStatus.UNKNOWN:
        return ask
    if seen.job.status not in ALIVE:
        return over
    # A job that has not begun reads no control file.
    if seen.job.status == JobStatus.PENDING or seen.asked_age_s >= grace_s:
        return StopJob()
    return ask


def failed(kind: str, failure: Failure) -> Problem:
    """Return the problem that a job has told of itself.

    Args:
        kind: Of the work, with its article: `the adaptation`.
        failure: As the job has put it.
    """
    got = f": got {failure.got}" if failure.got else ""
    expected = f"; expected {failure.expected}" if failure.expected else ""
    return Problem(
        title=f"{kind.capitalize()} failed",
        status=422,
        detail=f"{failure.what}{got}{expected}",
        code=failure.code,
        todo=failure.todo,
    )


def lost(kind: str, work: Attempted, job: JobReport, *, todo: str) -> Problem:
    """Return the problem of work whose last job has ended without a word."""
    return Problem(
        title=f"{kind.capitalize()}'s job was lost",
        status=500,
        detail=f"Attempt {work.attempt} was the last one: {what_happened(job)}.",
        code=EXHAUSTED,
        todo=f"Look into the job's log in the Ray dashboard, then {todo}.",
        errors=tuple(job.message.splitlines()[-MESSAGE_LINES:]),
    )


def what_happened(job: JobReport) -> str:
    """Return in words how a job ended that left neither a manifest nor a failure."""
    if job.status == JobStatus.MISSING:
        return "the cluster does not know the job, so it was restarted or the job never reached it"
    return f"the job ended as {job.status} and left neither a manifest nor a failure"
