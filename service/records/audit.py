"""Who asked this service to change what, and how it was answered."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import insert, select

from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.model import moment
from service.records.pages import newest_numbered
from service.records.tables import AuditRow
from service.schemas import AuditEntry

MAX_ACTION: Final = 64
MAX_PATH: Final = 512


@dataclass(frozen=True, kw_only=True)
class Deed:
    """One request that may have changed something.

    Attributes:
        action: Name of the route.
        status: HTTP status of the answer.
    """

    owner: str
    key_id: str | None
    request_id: str
    action: str
    path: str
    status: int


class AuditRecords:
    """The audit log: written once, never changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, deed: Deed) -> None:
        """Write one line."""
        values = {
            "at": DatabaseNow(),
            "owner": deed.owner,
            "key_id": deed.key_id,
            "request_id": deed.request_id,
            "action": deed.action[:MAX_ACTION],
            "path": deed.path[:MAX_PATH],
            "status": deed.status,
        }
        with self._database.transaction() as session:
            session.execute(insert(AuditRow).values(values))

    def page(
        self, *, owner: str | None, limit: int, cursor: str | None = None
    ) -> tuple[tuple[AuditEntry, ...], str | None]:
        """Return at most `limit` lines, newest first, and the cursor of the next part if there is one.

        Args:
            owner: Whose; None: everyone's.
            limit: Most lines.
            cursor: Of the part, as the part before has given it; None: the first part.

        Raises:
            InvalidRequestError: The cursor is none of ours.
        """
        query = select(AuditRow)
        if owner is not None:
            query = query.where(AuditRow.owner == owner)
        with self._database.transaction() as session:
            rows, following = newest_numbered(session, query, AuditRow, limit=limit, cursor=cursor)
        return tuple(map(_entry, rows)), following


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        at=moment(row.at),
        owner=row.owner,
        key_id=row.key_id,
        request_id=row.request_id,
        action=row.action,
        path=row.path,
        status=row.status,
    )
