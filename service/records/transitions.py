"""The one table of what may follow what, and the one function that changes a state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, update

from service.errors import IllegalTransitionError
from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.model import Adaptation
from service.records.tables import AdaptationRow
from service.schemas import FINAL_STATES, AdaptationState, Problem, Result
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


@dataclass(frozen=True, kw_only=True)
class Change:
    """A new state with what comes with it.

    Attributes:
        state: The new state.
        spent_s: Seconds to add to what earlier attempts used.
        error: Why it failed.
        result: What came out.
        artifacts: What can be downloaded.
    """

    state: AdaptationState
    spent_s: float = 0.0
    error: Problem | None = None
    result: Result | None = None
    artifacts: tuple[Artifact, ...] = ()


def transition(database: Database, seen: Adaptation, change: Change) -> bool:
    """Change an adaptation if its id, attempt and state are still as seen; return whether they were.

    Raises:
        IllegalTransitionError: The table does not know this change.
    """
    if change.state not in TRANSITIONS[seen.state]:
        allowed = ", ".join(sorted(TRANSITIONS[seen.state])) or "nothing"
        raise IllegalTransitionError(f"{seen.state} cannot become {change.state}", expected=allowed)
    still_as_seen = (
        AdaptationRow.id == seen.id,
        AdaptationRow.attempt == seen.attempt,
        AdaptationRow.state == seen.state,
    )
    changed = update(AdaptationRow).where(*still_as_seen).values(_columns(seen, change)).returning(AdaptationRow.id)
    with database.transaction() as session:
        return session.execute(changed).first() is not None


def _columns(seen: Adaptation, change: Change) -> dict[str, object]:
    columns: dict[str, object] = {
        "state": change.state,
        # What the old attempt still writes is ignored from then on.
        "attempt": seen.attempt + int(change.state == "QUEUED"),
        "spent_s": AdaptationRow.spent_s + change.spent_s,
    }
    if change.state == "RUNNING":
        columns["started_at"] = func.coalesce(AdaptationRow.started_at, DatabaseNow())
    if change.state == "CANCELLING" or (seen.state == "QUEUED" and change.state == "CANCELLED"):
        columns["cancel_requested_at"] = DatabaseNow()
    if change.state in FINAL_STATES:
        columns["finished_at"] = DatabaseNow()
        columns["error"] = change.error and change.error.model_dump(mode="json")
        columns["result"] = change.result and change.result.model_dump(mode="json")
        columns["artifacts"] = [artifact.model_dump(mode="json") for artifact in change.artifacts]
    return columns
