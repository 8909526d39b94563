"""The records of checks: whose turn it is, and how often a check was tried that has not come to an end."""

import logging
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import ValidationError
from sqlalchemy import Select, func, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.datasets import entry_of
from service.records.model import DatasetEntry
from service.records.owners import ARRIVING
from service.records.tables import DatasetRow
from service.schemas import Problem

NUM_LOOKED_AT: Final = 100
"""Datasets that one look for what did not arrive in time returns at most."""
UNREADABLE_S: Final = 300.0
"""After so long a row is looked at again that could not be read."""

logger = logging.getLogger(__name__)


class CheckRecords:
    """Datasets that are to be settled, of every owner.

    A try is recorded before it begins, and that it was not the dataset's fault afterwards. So a try counts that ends
    with the process that made it, whatever has ended that.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def arrived(self) -> tuple[DatasetEntry, ...]:
        """Return one round: of each owner that dataset whose check has been due longest, in the order of that.

        So nobody waits for more than one check of each other owner.
        """
        since = func.coalesce(DatasetRow.check_after, DatasetRow.changed_at)
        place = func.row_number().over(partition_by=DatasetRow.owner, order_by=(since, DatasetRow.id)).label("place")
        waiting = select(DatasetRow.id, place).where(DatasetRow.state == "CHECKING", _is_due()).subquery()
        first = select(DatasetRow).join(waiting, waiting.c.id == DatasetRow.id).where(waiting.c.place == 1)
        return self._readable(first.order_by(since, DatasetRow.id))

    def overdue(self, *, expires_s: float) -> tuple[DatasetEntry, ...]:
        """Return datasets that were begun so many seconds ago and are still not complete, the oldest first."""
        late = DatasetRow.changed_at < DatabaseNow() - expires_s
        query = select(DatasetRow).where(DatasetRow.state == "UPLOADING", late, _is_due())
        return self._readable(query.order_by(DatasetRow.changed_at, DatasetRow.id).limit(NUM_LOOKED_AT))

    def begin(self, seen: DatasetEntry, *, pause_s: float) -> bool:
        """Count a try that begins now; return whether the dataset was still as seen.

        Args:
            seen: The dataset, CHECKING.
            pause_s: Seconds until it is due again, should nobody come to say how the try has ended.
        """
        values = {
            "num_tries": seen.num_tries + 1,
            "num_waits": seen.num_waits + 1,
            "check_after": DatabaseNow() + pause_s,
        }
        return self._change(seen, seen.num_tries, seen.num_waits, values)

    def put_off(self, seen: DatasetEntry, error: Problem, *, pause_s: float, counts: bool) -> None:
        """Say why a try that was begun has brought no verdict.

        Args:
            seen: The dataset as it was before the try.
            error: Why; its owner sees it.
            pause_s: Seconds until it is due again.
            counts: Whether the try may have failed because of the dataset.
        """
        values = {
            "num_tries": seen.num_tries + counts,
            "check_after": DatabaseNow() + pause_s,
            "error": error.model_dump(mode="json"),
        }
        self._change(seen, seen.num_tries + 1, seen.num_waits + 1, values)

    def give_back(self, seen: DatasetEntry) -> None:
        """Undo the beginning of a try that was broken off: it is due at once."""
        values = {"num_tries": seen.num_tries, "num_waits": seen.num_waits, "check_after": None}
        self._change(seen, seen.num_tries + 1, seen.num_waits + 1, values)

    def uploads(self) -> Iterator[tuple[str, str]]:
        """Yield the id and the store's name of the upload of each dataset that arrives in parts or waits for its check.

        What is read of a row is only that: a damaged one keeps no service from starting.
        """
        query = select(DatasetRow.id, DatasetRow.upload).where(DatasetRow.state.in_(ARRIVING))
        with self._database.transaction() as session:
            rows = session.execute(query).all()
        for dataset_id, upload in rows:
            upload_id = upload.get("upload_id") if isinstance(upload, dict) else None
            if isinstance(upload_id, str):
                yield dataset_id, upload_id

    def _change(self, seen: DatasetEntry, num_tries: int, num_waits: int, values: Mapping[str, object]) -> bool:
        """Change a dataset that is still to be checked and was tried so often; return whether there was one."""
        as_seen = (
            DatasetRow.id == seen.id,
            DatasetRow.state == "CHECKING",
            DatasetRow.num_tries == num_tries,
            DatasetRow.num_waits == num_waits,
        )
        with self._database.transaction() as session:
            changed = session.execute(update(DatasetRow).where(*as_seen).values(values).returning(DatasetRow.id))
            return changed.first() is not None

    def _readable(self, query: Select[DatasetRow]) -> tuple[DatasetEntry, ...]:
        with self._database.transaction() as session:
            rows = session.scalars(query).all()
        entries = []
        for row in rows:
            try:
                entries.append(entry_of(row))
            except ValidationError as error:
                # Damaged, or of a newer version that shares these records. It loses its turn for a while: it would be
                # the first of its owner, and told of, at each look.
                logger.error("dataset=%s is left out, its record cannot be read: %s", row.id, error)
                later = update(DatasetRow).where(DatasetRow.id == row.id)
                with self._database.transaction() as session:
                    session.execute(later.values(check_after=DatabaseNow() + UNREADABLE_S))
        return tuple(entries)


def _is_due() -> ColumnElement[bool]:
    return or_(DatasetRow.check_after.is_(None), DatasetRow.check_after <= DatabaseNow())
