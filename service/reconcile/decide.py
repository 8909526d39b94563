"""What to do about one adaptation, given what can be seen of it. Pure: no clock, no store, no cluster.

The order of facts: what the attempt left in the store counts first (a manifest even over a cancel), and only where it
left nothing does it matter whether its job lives.
"""

from dataclasses import dataclass
from typing import Final

from service.ray.jobs import ALIVE, JobStatus
from service.reconcile.decisions import (
    Cancel,
    Fail,
    Limits,
    Observation,
    Retry,
    Start,
    StopJob,
    Submit,
    Wait,
    ending,
    failed,
    lost,
    submission,
    what_happened,
)
from service.records.model import Adaptation
from workers.contracts.artifacts import Manifest
from workers.contracts.errors import CancelledError

KIND: Final = "the adaptation"


@dataclass(frozen=True, kw_only=True)
class AdaptationObservation(Observation):
    """What can be seen of the current attempt of an adaptation.

    Attributes:
        manifest: The list of its artifacts, if it exists.
        cancel_written: Whether its job was asked to end.
        age_s: Seconds since its first attempt began.
    """

    manifest: Manifest | None = None
    cancel_written: bool = False
    age_s: float = 0.0


@dataclass(frozen=True)
class Succeed:
    """Take the result from the store; these files belong to it."""

    manifest: Manifest


@dataclass(frozen=True)
class AskToEnd:
    """Tell the job, by its control file, to end by itself."""


Decision = Wait | Start | Submit | Retry | Succeed | Fail | Cancel | AskToEnd | StopJob


def decide(adaptation: Adaptation, seen: AdaptationObservation, limits: Limits) -> Decision:
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
        ask = Wait() if seen.cancel_written else AskToEnd()
        return ending(seen, ask=ask, over=Cancel(), grace_s=limits.cancel_grace_s)
    if seen.job.status in ALIVE or seen.job.status == JobStatus.UNKNOWN:
        return Wait()
    again = submission(seen, limits)
    if again is not None:
        return again
    reason = what_happened(seen)
    patient = seen.age_s < adaptation.request.budget_s + limits.missing_s
    num_lost = adaptation.attempt - 1 - adaptation.num_failures
    if seen.job.status == JobStatus.MISSING and patient and num_lost < limits.max_lost:
        return Retry(reason, counts=False)
    if adaptation.num_failures + 1 < limits.max_attempts:
        return Retry(reason)
    return Fail(lost(KIND, adaptation, seen, todo="post the adaptation again"))
