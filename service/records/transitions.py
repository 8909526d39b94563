"""The tables of what may follow what, and the one function that changes a state."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from service.attempt_files import Attempted
from service.errors import IllegalTransitionError
from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.events import record_event
from service.records.model import Adaptation, MetaRun
from service.records.tables import AdaptationRow, MetaRunRow, WorkRow
from service.schemas import (
    FINAL_STATES,
    SETTLED_META_STATES,
    AdaptationState,
    EventKind,
    MetaResult,
    MetaRunState,
    Problem,
    Result,
)
from workers.contracts.artifacts import Artifact

TRANSITIONS: Final[Mapping[AdaptationState, frozenset[AdaptationState]]] = {
    "QUEUED": frozenset({"RUNNING", "CANCELLED"}),
    # Back to QUEUED: the job was lost, or never reached the cluster. What waits again is a new attempt.
    "RUNNING": frozenset({"QUEUED", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"}),
    "CANCELLING": frozenset({"SUCCEEDED", "FAILED", "CANCELLED"}),
    "SUCCEEDED": frozenset(),
    "FAILED": frozenset(),
    "CANCELLED": frozenset(),
}

META_TRANSITIONS: Final[Mapping[MetaRunState, frozenset[MetaRunState]]] = {
    # FAILED: meanwhile a dataset may no longer be learned from.
    "QUEUED": frozenset({"RUNNING", "STOPPED", "CANCELLED", "FAILED"}),
    "RUNNING": frozenset({"QUEUED", "STOPPING", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"}),
    # Never back to QUEUED: a job that is lost while it stops has left its checkpoints, from which a resume goes on.
    "STOPPING": frozenset({"STOPPED", "CANCELLING", "SUCCEEDED", "FAILED"}),
    # STOPPED: it had been asked to stop before, and its prior was there before the cancel.
    "CANCELLING": frozenset({"CANCELLED", "STOPPED", "SUCCEEDED", "FAILED"}),
    # Resumed, as a new attempt.
    "STOPPED": frozenset({"QUEUED"}),
    "FAILED": frozenset({"QUEUED"}),
    "SUCCEEDED": frozenset(),
    "CANCELLED": frozenset(),
}

_EVENTS: Final[Mapping[AdaptationState, EventKind]] = {
    "QUEUED": "adaptation.queued",
    "RUNNING": "adaptation.running",
    "CANCELLING": "adaptation.cancelling",
    "SUCCEEDED": "adaptation.succeeded",
    "FAILED": "adaptation.failed",
    "CANCELLED": "adaptation.cancelled",
}
_META_EVENTS: Final[Mapping[MetaRunState, EventKind]] = {
    "QUEUED": "meta_run.queued",
    "RUNNING": "meta_run.running",
    "STOPPING": "meta_run.stopping",
    "STOPPED": "meta_run.stopped",
    "CANCELLING": "meta_run.cancelling",
    "SUCCEEDED": "meta_run.succeeded",
    "FAILED": "meta_run.failed",
    "CANCELLED": "meta_run.cancelled",
}

StateT = TypeVar("StateT", bound=str)
ResultT = TypeVar("ResultT", Result, MetaResult)


@dataclass(frozen=True, kw_only=True)
class ChangeTo(Generic[StateT, ResultT]):
    """A new state with what comes with it.

    Attributes:
        state: The new state.
        spent_s: Seconds to add to what earlier attempts used.
        counts: Whether the attempt that ends is one of those that end the work once there are too many.
        afresh: Whether those before it no longer count: it has come further, or is begun again on purpose.
        error: Why it failed.
        result: What came out.
        artifacts: What can be downloaded.
    """

    state: StateT
    spent_s: float = 0.0
    counts: bool = False
    afresh: bool = False
    error: Problem | None = None
    result: ResultT | None = None
    artifacts: tuple[Artifact, ...] = ()


Change = ChangeTo[AdaptationState, Result]
MetaChange = ChangeTo[MetaRunState, MetaResult]


def transition(database: Database, seen: Adaptation, change: Change) -> bool:
    """Change an adaptation if its id, attempt and state are still as seen; return whether they were.

    Raises:
        IllegalTransitionError: The table does not know this change.
    """
    _check(TRANSITIONS, seen.state, change.state)
    columns = _columns(seen, change, AdaptationRow, final=FINAL_STATES)
    if change.state == "CANCELLING" or (seen.state == "QUEUED" and change.state == "CANCELLED"):
        columns["cancel_requested_at"] = DatabaseNow()
    with database.transaction() as session:
        changed = _swap(session, seen, AdaptationRow, columns)
        if changed:
            _tell(session, seen, change, _EVENTS[change.state])
        return changed


def meta_transition(session: Session, seen: MetaRun, change: MetaChange) -> bool:
    """Change a meta-run if its id, attempt and state are still as seen; return whether they were.

    Args:
        session: Of a transaction that has not read anything yet.
        seen: The meta-run as it was read before.
        change: What is to become of it.

    Raises:
        IllegalTransitionError: The table does not know this change.
    """
    _check(META_TRANSITIONS, seen.state, change.state)
    columns = _columns(seen, change, MetaRunRow, final=SETTLED_META_STATES)
    if change.state in {"STOPPING", "CANCELLING"} or (
        seen.state == "QUEUED" and change.state in {"STOPPED", "CANCELLED"}
    ):
        columns["asked_at"] = DatabaseNow()
    if change.state == "QUEUED":  # what was left of the end that a resume undoes
        columns |= {"asked_at": None, "finished_at": None, "error": None, "result": None, "artifacts": None}
    changed = _swap(session, seen, MetaRunRow, columns)
    if changed:
        _tell(session, seen, change, _META_EVENTS[change.state])
    return changed


def _check(table: Mapping[StateT, Set[StateT]], source: StateT, target: StateT) -> None:
    if target not in table[source]:
        allowed = ", ".join(sorted(table[source])) or "nothing"
        raise IllegalTransitionError(f"{source} cannot become {target}", expected=allowed)


def _swap(session: Session, seen: Attempted, row: type[WorkRow], columns: Mapping[str, object]) -> bool:
    still_as_seen = (row.id == seen.id, row.attempt == seen.attempt, row.state == seen.state)
    changed = update(row).where(*still_as_seen).values(**columns).returning(row.id)
    return session.execute(changed).first() is not None


def _tell(session: Session, seen: Attempted, change: ChangeTo[StateT, ResultT], kind: EventKind) -> None:
    data: dict[str, object] = {"attempt": seen.attempt + int(change.state == "QUEUED")}
    if change.error is not None:
        data["error"] = change.error.model_dump(mode="json")
    record_event(session, work_id=seen.id, owner=seen.owner, kind=kind, data=data)


def _columns(
    seen: Attempted,
    change: ChangeTo[StateT, ResultT],
    row: type[WorkRow],
    *,
    final: Set[StateT],
) -> dict[str, object]:
    columns: dict[str, object] = {
        "state": change.state,
        # What the old attempt still writes is ignored from then on.
        "attempt": seen.attempt + int(change.state == "QUEUED"),
        "spent_s": row.spent_s + change.spent_s,
        "num_failures": (0 if change.afresh else row.num_failures) + int(change.counts),
    }
    if change.state == "RUNNING":
        columns["started_at"] = func.coalesce(row.started_at, DatabaseNow())
    if change.state in final:
        columns["finished_at"] = DatabaseNow()
        columns["error"] = change.error and change.error.model_dump(mode="json")
        columns["result"] = change.result and change.result.model_dump(mode="json")
        columns["artifacts"] = [artifact.model_dump(mode="json") for artifact in change.artifacts]
    return columns
