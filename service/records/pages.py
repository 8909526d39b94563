"""Lists in parts: newest first, continued by a cursor that says where the part before ended."""

import re
from collections.abc import Sequence
from typing import Final, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from service.errors import InvalidRequestError
from service.records.tables import AuditRow, DatasetRow, DeliveryRow, PromotionRow, WebhookRow, WorkRow

Listed = DatasetRow | WorkRow | WebhookRow | DeliveryRow
Row = TypeVar("Row", bound=Listed)
Numbered = TypeVar("Numbered", bound=AuditRow | PromotionRow)

MAX_NUMBER: Final = 2**31 - 1
"""The largest that PostgreSQL compares with an `INTEGER` column."""
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_CURSOR: Final = re.compile(r"([0-9]{1,12}\.[0-9]{1,20}):([a-z]{2}-[0-9a-f]{1,32})")


def newest(
    session: Session, query: Select[Row], row: type[Row], *, limit: int, cursor: str | None
) -> tuple[Sequence[Row], str | None]:
    """Return at most `limit` of the rows of a query, newest first, and the cursor of the next part if there is one.

    Args:
        session: To ask.
        query: Which rows, in no order yet.
        row: Of which table.
        limit: Most rows.
        cursor: Of the part, as the part before has given it; None: the first part.

    Raises:
        InvalidRequestError: The cursor is none of ours.
    """
    if cursor is not None:
        query = query.where(tuple_(row.created_at, row.id) < tuple_(*_decode(cursor)))
    rows = session.scalars(query.order_by(row.created_at.desc(), row.id.desc()).limit(limit + 1)).all()
    return rows[:limit], _encode(rows[limit - 1]) if len(rows) > limit else None


def newest_numbered(
    session: Session, query: Select[Numbered], row: type[Numbered], *, limit: int, cursor: str | None
) -> tuple[Sequence[Numbered], str | None]:
    """Return as `newest` does, of rows to which the database gives numbers. Raises `InvalidRequestError`."""
    if cursor is not None:
        if not _NUMBER.fullmatch(cursor) or int(cursor) > MAX_NUMBER:
            raise no_cursor(cursor)
        query = query.where(row.id < int(cursor))
    rows = session.scalars(query.order_by(row.id.desc()).limit(limit + 1)).all()
    return rows[:limit], str(rows[limit - 1].id) if len(rows) > limit else None


def no_cursor(cursor: str) -> InvalidRequestError:
    """Return the refusal of what no part of a list has given."""
    return InvalidRequestError("not a cursor", got=cursor[:100], expected="the next_cursor of the part before")


def _encode(last: Listed) -> str:
    """Return the cursor of the part after this row; opaque to clients."""
    return f"{last.created_at!r}:{last.id}"


def _decode(cursor: str) -> tuple[float, str]:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise no_cursor(cursor)
    return float(found[1]), found[2]
