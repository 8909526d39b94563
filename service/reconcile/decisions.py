"""What the decisions about adaptations and about meta-runs have in common. Pure."""

from dataclasses import dataclass
from typing import Final, TypeVar

from service.attempt_files import Attempted
from service.ray.jobs import ALIVE, JobReport, JobStatus
from service.schemas import Problem
from workers.contracts.adaptations import Failure

MESSAGE_LINES: Final = 20
PAUSES_S: Final = (4.0, 8.0, 16.0, 32.0, 60.0)
"""Seconds before a job that the cluster did not take is submitted again; the last one holds from then on."""
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
        submit_grace_s: Seconds for which a job that the cluster did not take is submitted again, as the same attempt.
    """

    max_attempts: int
    cancel_grace_s: float
    stop_grace_s: float
    missing_s: float = 3600.0
    max_lost: int = 10
    submit_grace_s: float = 600.0


@dataclass(frozen=True, kw_only=True)
class Untaken:
    """That the cluster has not taken a job: it said no, or no answer came.

    Attributes:
        number: How often.
        first_age_s: Seconds since the first time.
        last_age_s: Seconds since the last time.
        why: What the cluster said last.
    """

    number: int
    first_age_s: float
    last_age_s: float
    why: str


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What can be seen of the current attempt, whatever its work is.

    Attributes:
        failure: What its `failure.json` says, if it exists.
        job: How its job is. Seen before the files, so that whatever a finished job wrote is seen too.
        slot_free: Whether another job may be submitted.
        asked_age_s: Seconds since it was asked to end; 0 where it was not.
        untaken: That the cluster has not taken its job; None: nobody knows of that, or something of the job was
            seen since.
    """

    failure: Failure | None = None
    job: JobReport = UNSEEN
    slot_free: bool = False
    asked_age_s: float = 0.0
    untaken: Untaken | None = None


@dataclass(frozen=True)
class Wait:
    """Nothing is to be done now."""


@dataclass(frozen=True)
class Start:
    """Begin the attempt, and submit its job."""


@dataclass(frozen=True)
class Submit:
    """Submit the job of an attempt that has begun once more, under the same id."""


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


def submission(seen: Observation, limits: Limits) -> Submit | Wait | None:
    """Return what follows where the cluster has not taken the job of an attempt; None: the attempt is lost.

    The job's id is the same each time, so a submission that arrives late after all does no harm: of two the cluster
    takes one.

    Args:
        seen: What can be seen of an attempt whose job does not live.
        limits: How patient to be.
    """
    untaken = seen.untaken
    if seen.job.status != JobStatus.MISSING or untaken is None or untaken.first_age_s >= limits.submit_grace_s:
        return None
    pause_s = PAUSES_S[min(untaken.number, len(PAUSES_S)) - 1]
    return Submit() if untaken.last_age_s >= pause_s else Wait()


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


def lost(kind: str, work: Attempted, seen: Observation, *, todo: str) -> Problem:
    """Return the problem of work whose last job has ended without a word."""
    return Problem(
        title=f"{kind.capitalize()}'s job was lost",
        status=500,
        detail=f"Attempt {work.attempt} was the last one: {what_happened(seen)}.",
        code=EXHAUSTED,
        todo=f"Look into the job's log in the Ray dashboard, then {todo}.",
        errors=tuple(seen.job.message.splitlines()[-MESSAGE_LINES:]),
    )


def what_happened(seen: Observation) -> str:
    """Return in words how an attempt ended that left neither a manifest nor a failure."""
    job, untaken = seen.job, seen.untaken
    if job.status != JobStatus.MISSING:
        return f"the job ended as {job.status} and left neither a manifest nor a failure"
    if untaken is not None:
        return f"the cluster did not take the job, {untaken.number} times in {untaken.first_age_s:.0f} s: {untaken.why}"
    return "the cluster does not know the job, so it was restarted or the job never reached it"
