"""Places in the queue."""

from collections.abc import Collection, Mapping

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from service.records.tables import WorkRow


def positions(
    session: Session, row: type[WorkRow], ids: Collection[str], *, queue: ColumnElement[str] | None = None
) -> Mapping[str, int]:
    """Return how many wait before each of some works, for those that wait; one question for all of them.

    Args:
        session: To ask.
        row: Of which table.
        ids: Of the works.
        queue: What tells the queues of that table apart; None: there is one.
    """
    if not ids:
        return {}
    order = (row.priority.desc(), row.arrival, row.id)
    place = func.row_number().over(partition_by=queue, order_by=order)
    waiting = select(row.id, place.label("place")).where(row.state == "QUEUED").subquery()
    found = session.execute(select(waiting.c.id, waiting.c.place).where(waiting.c.id.in_(ids)))
    return {work_id: number - 1 for work_id, number in found}
