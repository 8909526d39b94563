"""What became of datasets, adaptations and meta-runs, told in the order in which it happened."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from service.records.clock import DatabaseNow
from service.records.tables import EventRow
from service.schemas import EventKind

NOTHING: Final[Mapping[str, object]] = {}


def record_event(
    session: Session, *, work_id: str, owner: str, kind: EventKind, data: Mapping[str, object] = NOTHING
) -> None:
    """Record an event in the transaction that makes it true.

    Args:
        session: Of that transaction, which has written the row of what the event is about: this makes the events of one
            thing follow one another.
        work_id: Of what it is about.
        owner: Whose that is.
        kind: Of event.
        data: What is to be known beside.
    """
    last = select(func.coalesce(func.max(EventRow.sequence), 0)).where(EventRow.work_id == work_id)
    values = {
        "work_id": work_id,
        "sequence": int(session.scalar(last) or 0) + 1,
        "owner": owner,
        "kind": kind,
        "data": dict(data),
        "created_at": DatabaseNow(),
    }
    session.execute(insert(EventRow).values(values))
