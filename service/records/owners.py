"""Owners, their quotas, and what of them is used."""

import re
from collections.abc import Mapping
from typing import Final

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from search_spaces.errors import InvalidOptionError
from service.errors import NotFoundError
from service.quotas import UNLIMITED, Quotas, Usage, check
from service.records.clock import DatabaseNow
from service.records.counts import UNFINISHED
from service.records.database import Database
from service.records.tables import DatasetRow, OwnerRow
from workers.contracts.base import Contract

ARRIVING: Final = ("UPLOADING", "CHECKING")
"""States of datasets that are not settled."""
HELD: Final = (*ARRIVING, "READY")
"""States of datasets whose bytes count: they are here, or on their way."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Owner(Contract):
    """An owner, what it may have and what it has.

    Attributes:
        max_bytes: Of its datasets together; None: what the service's settings say.
        max_unfinished: Adaptations and meta-runs that run or wait; None as above.
    """

    id: str
    max_bytes: int | None = None
    max_unfinished: int | None = None
    num_bytes: int
    num_unfinished: int


class OwnerRecords:
    """The owners of this service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> tuple[Owner, ...]:
        """Return the owners that have a key or have ever sent something."""
        with self._database.transaction() as session:
            return tuple(_owner(session, row) for row in session.scalars(select(OwnerRow).order_by(OwnerRow.id)))

    def set_quotas(self, owner: str, quotas: Quotas) -> Owner:
        """Give an owner quotas of its own; what is None stays. Raises `NotFoundError`."""
        given = {"max_bytes": quotas.max_bytes, "max_unfinished": quotas.max_unfinished}
        return self._updated(owner, {name: value for name, value in given.items() if value is not None})

    def clear_quotas(self, owner: str) -> Owner:
        """Have the service's settings count again for an owner. Raises `NotFoundError`."""
        return self._updated(owner, {"max_bytes": None, "max_unfinished": None})

    def get(self, owner: str) -> Owner:
        """Return one owner. Raises `NotFoundError`."""
        return self._updated(owner, {})

    def _updated(self, owner: str, values: Mapping[str, int | None]) -> Owner:
        with self._database.transaction() as session:
            if values:
                session.execute(update(OwnerRow).where(OwnerRow.id == owner).values(values))
            row = session.get(OwnerRow, owner)
            if row is None:
                raise _no_such_owner(owner)
            return _owner(session, row)


def check_owner(name: str) -> None:
    """Raise `InvalidOptionError` if no owner can be called so."""
    if _NAME.fullmatch(name) is None:
        expected = "up to 64 letters, digits, dots, dashes and underscores, beginning with a letter or digit"
        raise InvalidOptionError("not an owner's name", got=name, expected=expected)


def add_owner(session: Session, owner: str) -> None:
    """Record an owner if it is new, and have its transactions follow one another from here on.

    This writes first, so that each of two that come at once sees what the other has recorded: SQLite has one writer,
    PostgreSQL locks the owner's row.
    """
    touch = update(OwnerRow).where(OwnerRow.id == owner).values(touched_at=DatabaseNow()).returning(OwnerRow.id)
    if session.scalar(touch) is not None:
        return
    try:
        with session.begin_nested():
            session.execute(insert(OwnerRow).values(id=owner, touched_at=DatabaseNow()))
    except IntegrityError:  # another one was faster
        session.execute(touch)


def admit(session: Session, owner: str, defaults: Quotas, more: Usage) -> None:
    """Refuse what would go beyond an owner's quotas; called first in the transaction that records it.

    Args:
        session: Of that transaction.
        owner: Whose quotas.
        defaults: For quotas that the owner has not got of its own.
        more: What would be recorded.

    Raises:
        QuotaExceededError: It would be too much.
    """
    add_owner(session, owner)
    require_room(session, owner, defaults, more)


def require_room(session: Session, owner: str, defaults: Quotas, more: Usage) -> None:
    """Refuse what would go beyond an owner's quotas as they are used now; `admit` decides. Raises as that."""
    row = session.get(OwnerRow, owner)
    own = UNLIMITED if row is None else Quotas(max_bytes=row.max_bytes, max_unfinished=row.max_unfinished)
    quotas = Quotas(
        max_bytes=defaults.max_bytes if own.max_bytes is None else own.max_bytes,
        max_unfinished=defaults.max_unfinished if own.max_unfinished is None else own.max_unfinished,
        max_arriving=defaults.max_arriving,
    )
    # Nothing is counted that no quota bounds, or of which nothing is asked for.
    usage = Usage(
        num_bytes=_num_bytes(session, owner) if more.num_bytes and quotas.max_bytes is not None else 0,
        num_unfinished=_num_unfinished(session, owner)
        if more.num_unfinished and quotas.max_unfinished is not None
        else 0,
        num_arriving=_num_arriving(session, owner) if more.num_arriving and quotas.max_arriving is not None else 0,
    )
    check(quotas, usage, more)


def _num_bytes(session: Session, owner: str) -> int:
    total = select(func.coalesce(func.sum(DatasetRow.num_bytes), 0)).where(
        DatasetRow.owner == owner, DatasetRow.state.in_(HELD), DatasetRow.alias_of.is_(None)
    )
    return int(session.scalar(total) or 0)


def _num_unfinished(session: Session, owner: str) -> int:
    unfinished = (
        select(func.count(row.id)).where(row.owner == owner, row.state.in_(states))
        for row, states in UNFINISHED.items()
    )
    return sum(session.scalar(query) or 0 for query in unfinished)


def _num_arriving(session: Session, owner: str) -> int:
    arriving = select(func.count(DatasetRow.id)).where(DatasetRow.owner == owner, DatasetRow.state.in_(ARRIVING))
    return session.scalar(arriving) or 0


def _owner(session: Session, row: OwnerRow) -> Owner:
    return Owner(
        id=row.id,
        max_bytes=row.max_bytes,
        max_unfinished=row.max_unfinished,
        num_bytes=_num_bytes(session, row.id),
        num_unfinished=_num_unfinished(session, row.id),
    )


def _no_such_owner(owner: str) -> NotFoundError:
    todo = "`archprior owners list` shows those there are; the first key of an owner makes it."
    return NotFoundError("no such owner", got=owner, todo=todo)
