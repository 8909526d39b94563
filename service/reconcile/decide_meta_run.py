"""What to do about one meta-run, given what can be seen of it. Pure: no clock, no store, no cluster.

The order of facts is as for adaptations: what the attempt left in the store counts first, and only where it left
nothing does it matter whether its job lives. What is wanted of a living job follows from the recorded state and from
the worker cap alone, and is written whole whenever the control file says anything else: so no writer can lose what
another one wrote.
"""

from dataclasses import dataclass
from typing import Final, Literal

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
from service.records.model import MetaRun
from service.schemas import MetaRunState, Problem
from workers.contracts.errors import CancelledError
from workers.contracts.meta_runs import MetaControl, MetaManifest

KIND: Final = "the meta-run"


@dataclass(frozen=True, kw_only=True)
class MetaObservation(Observation):
    """What can be seen of the current attempt of a meta-run.

    Attributes:
        manifest: The list of its artifacts, if it exists.
        refusal: Why what waits may not start any more; None: it may.
        control: What its job was told last; None: nothing yet.
        max_workers: The worker cap that its job should have.
        num_in_a_row: Attempts in a row that were lost and reached no new checkpoint, the current one among them; 0:
            it reached one, or is not lost.
    """

    manifest: MetaManifest | None = None
    refusal: Problem | None = None
    control: MetaControl | None = None
    max_workers: int | None = None
    num_in_a_row: int = 0


@dataclass(frozen=True)
class Finish:
    """Take the result from the store; these files belong to it."""

    manifest: MetaManifest
    state: Literal["SUCCEEDED", "STOPPED"]


@dataclass(frozen=True)
class Stop:
    """It has ended because it was asked to, but has published nothing; its checkpoints are whole."""


@dataclass(frozen=True)
class Tell:
    """Have the control file say this to the job."""

    control: MetaControl


MetaDecision = Wait | Start | Submit | Retry | Finish | Fail | Stop | Cancel | Tell | StopJob


def decide_meta_run(meta_run: MetaRun, seen: MetaObservation, limits: Limits) -> MetaDecision:
    """Return the one next step for a meta-run that has not settled.

    Args:
        meta_run: As recorded: QUEUED, RUNNING, STOPPING or CANCELLING.
        seen: What can be seen of its current attempt.
        limits: How patient to be.
    """
    if meta_run.state == "QUEUED":
        if not seen.slot_free:
            return Wait()
        return Start() if seen.refusal is None else Fail(seen.refusal)
    if seen.manifest is not None:
        # Without having been asked to end, a run that is not complete has used up its budget, as it was told to.
        done = seen.manifest.complete or meta_run.state == "RUNNING"
        return Finish(seen.manifest, "SUCCEEDED" if done else "STOPPED")
    if seen.failure is not None and seen.failure.code != CancelledError.code:
        return Fail(failed(KIND, seen.failure))
    if seen.failure is not None:
        return _asked_end(meta_run.state)
    if meta_run.state != "RUNNING":
        return _ending(meta_run, seen, limits)
    if seen.job.status in ALIVE or seen.job.status == JobStatus.UNKNOWN:
        return _tell(meta_run.state, seen)
    again = submission(seen, limits)
    if again is not None:
        return again
    reason = what_happened(seen)
    if seen.num_in_a_row == 0:
        return Retry(reason, counts=False, afresh=True)
    num_lost = seen.num_in_a_row - 1 - meta_run.num_failures
    if seen.job.status == JobStatus.MISSING and num_lost < limits.max_lost:
        return Retry(reason, counts=False)
    if meta_run.num_failures + 1 < limits.max_attempts:
        return Retry(reason)
    return Fail(lost(KIND, meta_run, seen, todo="resume the meta-run: it goes on from its last checkpoint"))


def _ending(meta_run: MetaRun, seen: MetaObservation, limits: Limits) -> MetaDecision:
    grace_s = limits.stop_grace_s if meta_run.state == "STOPPING" else limits.cancel_grace_s
    return ending(seen, ask=_tell(meta_run.state, seen), over=_asked_end(meta_run.state), grace_s=grace_s)


def _asked_end(state: MetaRunState) -> Stop | Cancel:
    return Stop() if state == "STOPPING" else Cancel()


def _tell(state: MetaRunState, seen: MetaObservation) -> Tell | Wait:
    wanted = control_for(state, seen.max_workers)
    return Wait() if (seen.control or MetaControl()) == wanted else Tell(wanted)


def control_for(state: MetaRunState, max_workers: int | None) -> MetaControl:
    """Return what the control file of a meta-run in that state is to say."""
    if state == "STOPPING":
        return MetaControl(desired="stop", max_workers=max_workers)
    if state == "CANCELLING":
        return MetaControl(desired="cancel", max_workers=max_workers)
    return MetaControl(desired="run", max_workers=max_workers)
