"""What the records of adaptations and of meta-runs have in common."""

import logging
from collections.abc import Callable, Iterable, Mapping, Set
from functools import cached_property
from typing import Final, Generic, TypeVar

from pydantic import ValidationError
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from service.attempt_files import Attempted
from service.errors import NotFoundError
from service.quotas import UNLIMITED, Quotas, Usage
from service.records.database import Database
from service.records.idempotency import Once, made_by
from service.records.owners import admit, require_room
from service.records.pages import newest
from service.records.places import positions
from service.records.tables import IdentityRow, WorkRow

Row = TypeVar("Row", bound=WorkRow)
Work = TypeVar("Work", bound=Attempted)
State = TypeVar("State", bound=str)

QUEUED: Final = "QUEUED"
FAILED: Final = "FAILED"
ONE_MORE: Final = Usage(num_unfinished=1)

logger = logging.getLogger(__name__)


class WorkRecords(Generic[Row, Work, State]):
    """Work of one kind.

    Args:
        database: Where the rows lie.
        row: Of which table.
        read: From a row to what it records; raises `ValidationError` where another version wrote it.
        active: States in which there is a job.
        final: States in which no job runs or will.
        kind: Of work, as paths and errors call it: `adaptation`.
        queue: What tells the queues of the table apart; None: there is one.
        quotas: Of owners that have none of their own.
    """

    def __init__(
        self,
        database: Database,
        *,
        row: type[Row],
        read: Callable[[Row], Work],
        active: Set[State],
        final: Set[State],
        kind: str,
        queue: ColumnElement[str] | None = None,
        quotas: Quotas = UNLIMITED,
    ) -> None:
        self._database, self._quotas = database, quotas
        self._row, self._read, self._kind, self._queue = row, read, kind, queue
        self._active, self._final = active, final
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

    def made_by(self, once: Once | None, *, owner: str) -> Work | None:
        """Return what a request has made already; None where it has not, or came without a key.

        Raises:
            IdempotencyKeyReusedError: Another request had its key.
        """
        if once is None:
            return None
        with self._database.transaction() as session:
            work_id = made_by(session, once, owner=owner)
        return None if work_id is None else self.get(work_id, owner=owner)

    def require_room(self, *, owner: str) -> None:
        """Refuse what `add` would refuse for its owner's quota if it were called now. Raises `QuotaExceededError`."""
        with self._database.transaction() as session:
            require_room(session, owner, self._quotas, ONE_MORE)

    def _admit(self, session: Session, owner: str) -> None:
        """Refuse one more, unfinished, beyond its owner's quota: first in the transaction that records it."""
        admit(session, owner, self._quotas, ONE_MORE)

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

    def active(self, *, owner: str | None = None, limit: int | None = None) -> tuple[Work, ...]:
        """Return work that has a job, in the order of its arrival.

        Args:
            owner: Whose; None: every owner's.
            limit: Most of it; None: all.
        """
        row = self._row
        query = select(row).where(row.state.in_(self._active), *self._of(owner))
        with self._database.transaction() as session:
            return self._readable(session.scalars(query.order_by(row.arrival, row.id).limit(limit)))

    def failed(self, *, owner: str, limit: int) -> tuple[Work, ...]:
        """Return what has FAILED, the last first."""
        row = self._row
        query = select(row).where(row.state == FAILED, row.owner == owner)
        with self._database.transaction() as session:
            return self._readable(session.scalars(query.order_by(row.finished_at.desc(), row.id).limit(limit)))

    def waiting(
        self, limit: int | None = None, *, queue: str | None = None, owner: str | None = None
    ) -> tuple[Work, ...]:
        """Return work that waits, in the order in which it is served.

        Args:
            limit: Most of it; None: all.
            queue: In which queue of the table; None: in any.
            owner: Whose; None: every owner's.
        """
        if limit == 0:
            return ()
        row = self._row
        query = select(row).where(row.state == QUEUED, *self._of(owner))
        query = query.order_by(row.priority.desc(), row.arrival, row.id)
        if queue is not None and self._queue is not None:
            query = query.where(self._queue == queue)
        while True:
            # What cannot be read takes no place from the others.
            readable = query.where(row.id.not_in(tuple(self._unreadable))).limit(limit)
            with self._database.transaction() as session:
                rows = session.scalars(readable).all()
            found = self._readable(rows)
            if len(found) == len(rows):
                return found

    def _of(self, owner: str | None) -> tuple[ColumnElement[bool], ...]:
        return () if owner is None else (self._row.owner == owner,)

    @cached_property
    def home(self) -> str:
        """What tells these records, and the jobs of what they hold, from those of other services."""
        with self._database.transaction() as session:
            return session.scalars(select(IdentityRow.id)).one()

    def is_current(self, work_id: str, attempt: int) -> bool:
        """Return whether this attempt still has or awaits a job: it was not given up for another, and has not ended."""
        query = select(self._row.id).where(
            self._row.id == work_id, self._row.attempt == attempt, self._row.state.not_in(self._final)
        )
        with self._database.transaction() as session:
            return session.scalar(query) is not None

    def positions(self, works: Iterable[Work]) -> Mapping[str, int]:
        """Return how many wait before each of these works that waits itself, by id."""
        waiting = [work.id for work in works if work.state == "QUEUED"]
        if not waiting:
            return {}
        with self._database.transaction() as session:
            return positions(session, self._row, waiting, queue=self._queue)

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
