"""What to do about one adaptation, given what can be seen of it. Pure: no clock, no store, no cluster.

The order of facts: what the attempt left in the store counts first (a manifest even over a cancel), and only where it
left nothing does it matter whether its job lives.
"""

from dataclasses import dataclass
from typing import Final

from service.jobs import JobReport, JobStatus
from service.reconcile.decisions import (
    ALIVE,
    UNSEEN,
    Cancel,
    Fail,
    Limits,
    Retry,
    Start,
    StopJob,
    Wait,
    failed,
    lost,
    what_happened,
)
from service.records.model import Adaptation
from workers.contracts.adaptations import Failure
from workers.contracts.artifacts import Manifest
from workers.contracts.errors import CancelledError

KIND: Final = "the adaptation"


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


@dataclass(frozen=True)
class Succeed:
    """Take the result from the store; these files belong to it."""

    manifest: Manifest


@dataclass(frozen=True)
class AskToEnd:
    """Tell the job, by its control file, to end by itself."""


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
        return Cancel() if seen.failure.code == CancelledError.code else Fail(failed(KIND, seen.failure))
    if adaptation.state == "CANCELLING":
        return _cancelling(seen, limits)
    if seen.job.status in ALIVE or seen.job.status == JobStatus.UNKNOWN:
        return Wait()
    if adaptation.attempt < limits.max_attempts:
        return Retry(what_happened(seen.job))
    return Fail(lost(KIND, adaptation, seen.job, todo="post the adaptation again"))


def _cancelling(seen: Observation, limits: Limits) -> Decision:
    if seen.job.status == JobStatus.UNKNOWN:
        return Wait() if seen.cancel_written else AskToEnd()
    if seen.job.status not in ALIVE:
        return Cancel()
    if seen.job.status == JobStatus.PENDING or seen.cancel_age_s >= limits.cancel_grace_s:
        return StopJob()
    return Wait() if seen.cancel_written else AskToEnd()
