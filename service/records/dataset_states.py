"""The table of what may become of a dataset, and the one function that changes its state."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import update
from sqlalchemy.orm import Session

from service.errors import IllegalTransitionError
from service.records.clock import DatabaseNow
from service.records.events import NOTHING, record_event
from service.records.model import StoredDatasetState
from service.records.tables import DatasetRow
from service.schemas import EventKind

DATASET_TRANSITIONS: Final[Mapping[StoredDatasetState, frozenset[StoredDatasetState]]] = {
    # REJECTED: it was not completed in time.
    "UPLOADING": frozenset({"CHECKING", "REJECTED", "DELETING"}),
    "CHECKING": frozenset({"READY", "REJECTED", "DELETING"}),
    "READY": frozenset({"DELETING"}),
    "REJECTED": frozenset({"DELETING"}),
    "DELETING": frozenset({"DELETED"}),
    "DELETED": frozenset(),
}

_EVENTS: Final[Mapping[StoredDatasetState, EventKind]] = {
    "READY": "dataset.ready",
    "REJECTED": "dataset.rejected",
    "DELETING": "dataset.deleted",
}


def move(
    session: Session,
    dataset_id: str,
    *,
    owner: str,
    seen: StoredDatasetState,
    to: StoredDatasetState,
    values: Mapping[str, object] = NOTHING,
    data: Mapping[str, object] = NOTHING,
) -> bool:
    """Change a dataset's state if it is still as seen; return whether it was. What it becomes is told as an event.

    Args:
        session: Of the transaction.
        dataset_id: Of the dataset.
        owner: Whose it is.
        seen: Its state as it was read before.
        to: Its new state.
        values: Of other columns that change with it.
        data: What the event says beside.

    Raises:
        IllegalTransitionError: The table does not know this change.
    """
    if to not in DATASET_TRANSITIONS[seen]:
        allowed = ", ".join(sorted(DATASET_TRANSITIONS[seen])) or "nothing"
        raise IllegalTransitionError(f"{seen} cannot become {to}", expected=allowed)
    still_as_seen = (DatasetRow.id == dataset_id, DatasetRow.owner == owner, DatasetRow.state == seen)
    changed = (
        update(DatasetRow)
        .where(*still_as_seen)
        .values({**values, "state": to, "changed_at": DatabaseNow()})
        .returning(DatasetRow.id)
    )
    if session.execute(changed).first() is None:
        return False
    if to in _EVENTS:
        record_event(session, work_id=dataset_id, owner=owner, kind=_EVENTS[to], data=data)
    return True
