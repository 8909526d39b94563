"""What the records of adaptations and of meta-runs have in common."""

import logging
from collections.abc import Callable, Iterable, Set
from typing import Generic, TypeVar

from pydantic import ValidationError
from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy.orm import aliased

from service.attempt_files import Attempted
from service.errors import NotFoundError
from service.records.database import Database
from service.records.pages import newest
from service.records.tables import WorkRow

Row = TypeVar("Row", bound=WorkRow)
Work = TypeVar("Work", bound=Attempted)
State = TypeVar("State", bound=str)

logger = logging.getLogger(__name__)


class WorkRecords(Generic[Row, Work, State]):
    """Work of one kind.

    Args:
        database: Where the rows lie.
        row: Of which table.
        read: From a row to what it records; raises `ValidationError` where another version wrote it.
        final: States in which no job runs.
        kind: Of work, as paths and errors call it: `adaptation`.
    """

    def __init__(
        self, database: Database, *, row: type[Row], read: Callable[[Row], Work], final: Set[State], kind: str
    ) -> None:
        self._database = database
        self._row, self._read, self._final, self._kind = row, read, final, kind
        self._unreadable: set[str] = set()

    def get(self, work_id: str, *, owner: str) -> Work:
        """Return what has this id. Raises `NotFoundError`."""
        query = select(self._row).where(self._row.id == work_id, self._row.owner == owner)
        with self._database.transaction() as session:
            row = session.scalar(query)
        if row is None:
            todo = f"GET /v1/{self._kind}s lists those there are."
            raise NotFoundError(f"no such {self._kind}", got=work_id, todo=todo)
        return self._read(row)

    def page(
        self, *, owner: str, limit: int, state: State | None = None, cursor: str | None = None
    ) -> tuple[tuple[Work, ...], str | None]:
        """Return at most `limit`, newest first, and the cursor of the next part if there is one."""
        query = select(self._row).where(self._row.owner == owner)
        if state is not None:
            query = query.where(self._row.state == state)
        with self._database.transaction() as session:
            rows, following = newest(session, query, self._row, limit=limit, cursor=cursor)
        return self._readable(rows), following

    def unfinished(self) -> tuple[Work, ...]:
        """Return every owner's work of which a job runs or will, oldest first."""
        query = (
            select(self._row).where(self._row.state.not_in(self._final)).order_by(self._row.created_at, self._row.id)
        )
        with self._database.transaction() as session:
            return self._readable(session.scalars(query))

    def _num_before(self, work: Work, *conditions: ColumnElement[bool]) -> int:
        """Return how much that meets the conditions was waiting before this."""
        own = aliased(self._row)
        before = tuple_(self._row.created_at, self._row.id) < tuple_(own.created_at, own.id)
        query = (
            select(func.count(self._row.id))
            .join(own, own.id == work.id)
            .where(self._row.state == "QUEUED", before, *conditions)
        )
        with self._database.transaction() as session:
            return session.scalar(query) or 0

    def _readable(self, rows: Iterable[Row]) -> tuple[Work, ...]:
        """Leave out what another version wrote and this one cannot read: the others go on."""
        found = []
        for row in rows:
            try:
                found.append(self._read(row))
            except ValidationError as error:
                if row.id not in self._unreadable:  # told once, not at every look
                    logger.error("work=%s cannot be read and is left alone: %s", row.id, error)
                self._unreadable.add(row.id)
        return tuple(found)
