"""The records of datasets."""

import logging
import secrets
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Final, get_args

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from service.errors import NotFoundError
from service.quotas import UNLIMITED, Quotas, Usage
from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.dataset_states import move
from service.records.events import record_event
from service.records.idempotency import Once, claim, made_by
from service.records.model import Arrival, Dataset, DatasetEntry, moment
from service.records.owners import add_owner, require_room
from service.records.pages import newest
from service.records.tables import DatasetRow
from service.schemas import DatasetChange, DatasetState, Problem
from workers.contracts.datasets import DatasetFindings, DatasetReport

VISIBLE: Final = get_args(DatasetState)

SAID: Final = {"name", "meta_use", "terms"}
"""Of an arrival: what its sender says of the dataset."""

_STATE: Final[TypeAdapter[DatasetState]] = TypeAdapter(DatasetState)

logger = logging.getLogger(__name__)


def new_dataset_id() -> str:
    """Return an id that no dataset has."""
    return f"ds-{secrets.token_hex(6)}"


class DatasetRecords:
    """Datasets of this service; each owner's bytes are recorded once.

    A dataset whose bytes turn out to be those of another one of its owner becomes an alias: its id stands for the other
    from then on, and no list shows it.
    """

    def __init__(self, database: Database, quotas: Quotas = UNLIMITED) -> None:
        self._database, self._quotas = database, quotas
        self._unreadable: set[str] = set()

    def add(
        self,
        *,
        name: str,
        sha256: str,
        num_bytes: int,
        report: DatasetReport,
        findings: DatasetFindings | None = None,
        owner: str,
        meta_use: bool = False,
        terms: str | None = None,
    ) -> tuple[Dataset, bool]:
        """Record a dataset, READY; return it and whether it is new. One that is there already stays as it is.

        Raises:
            QuotaExceededError: Its owner may not have so many bytes.
        """
        values = {
            "id": new_dataset_id(),
            "owner": owner,
            "name": name,
            "sha256": sha256,
            "num_bytes": num_bytes,
            "report": report.model_dump(mode="json"),
            "findings": None if findings is None else findings.model_dump(mode="json"),
            "created_at": DatabaseNow(),
            "changed_at": DatabaseNow(),
            "meta_use": meta_use,
            **({} if terms is None else {"terms": terms}),
        }
        with self._database.transaction() as session:
            add_owner(session, owner)  # of two that bring the same bytes at once, the second sees the first's
            known = _of_bytes(session, sha256, owner=owner)
            if known is not None:
                return entry_of(known).ready(), False
            require_room(session, owner, self._quotas, Usage(num_bytes=num_bytes))
            row = session.scalars(insert(DatasetRow).values(values).returning(DatasetRow)).one()
            record_event(session, work_id=row.id, owner=owner, kind="dataset.ready")
            return entry_of(row).ready(), True

    def expect(
        self,
        dataset_id: str,
        *,
        name: str,
        num_bytes: int,
        arrival: Arrival,
        owner: str,
        source: str | None = None,
        declared_sha256: str | None = None,
        once: Once | None = None,
    ) -> DatasetEntry:
        """Record a dataset that arrives; or return what the same request has made before.

        It is UPLOADING, or where it has a source, CHECKING: whoever checks it copies it first. Its bytes count from
        here on.

        Args:
            dataset_id: Its new id.
            name: As people know it.
            num_bytes: That will arrive.
            arrival: How.
            owner: Whose it is.
            source: Where it is copied from.
            declared_sha256: What its sender says its hash is.
            once: Of a request that may come again.

        Raises:
            IdempotencyKeyReusedError: Another request had this key.
            QuotaExceededError: Its owner may not have so many bytes, or datasets that arrive.
        """
        values = {
            "id": dataset_id,
            "owner": owner,
            "name": name,
            "state": "UPLOADING" if source is None else "CHECKING",
            "num_bytes": num_bytes,
            "created_at": DatabaseNow(),
            "changed_at": DatabaseNow(),
            "meta_use": bool(arrival.meta_use),
            "source": source,
            "upload": arrival.model_dump(mode="json"),
            "declared_sha256": declared_sha256,
            **({} if arrival.terms is None else {"terms": arrival.terms}),
        }
        with self._database.transaction() as session:
            if once is not None:
                made = claim(session, once, owner=owner, work_id=dataset_id)
                if made != dataset_id:
                    return entry_of(_visible(session, made, owner=owner))
            add_owner(session, owner)
            require_room(session, owner, self._quotas, Usage(num_bytes=num_bytes, num_arriving=1))
            return entry_of(session.scalars(insert(DatasetRow).values(values).returning(DatasetRow)).one())

    def made_by(self, once: Once | None, *, owner: str) -> DatasetEntry | None:
        """Return what a request has made before, or None.

        Raises:
            IdempotencyKeyReusedError: Another request had this key.
            NotFoundError: It was deleted since.
        """
        if once is None:
            return None
        with self._database.transaction() as session:
            made = made_by(session, once, owner=owner)
            return None if made is None else entry_of(_visible(session, made, owner=owner))

    def require_room(self, more: Usage, *, owner: str) -> None:
        """Refuse what would be refused if it were recorded now. Raises `QuotaExceededError`."""
        with self._database.transaction() as session:
            require_room(session, owner, self._quotas, more)

    def find(self, sha256: str, *, owner: str) -> Dataset | None:
        """Return the dataset with these bytes, or None."""
        with self._database.transaction() as session:
            row = _of_bytes(session, sha256, owner=owner)
            return None if row is None else entry_of(row).ready()

    def get(self, dataset_id: str, *, owner: str) -> Dataset:
        """Return one dataset that can be used; of an alias, the one that it stands for.

        Raises:
            NotFoundError: There is none.
            DatasetNotReadyError: It arrives, is being checked, or was refused.
        """
        return self.entry(dataset_id, owner=owner).ready()

    def entry(self, dataset_id: str, *, owner: str) -> DatasetEntry:
        """Return one dataset in whatever state; of an alias, the one that it stands for. Raises `NotFoundError`."""
        with self._database.transaction() as session:
            return entry_of(_visible(session, dataset_id, owner=owner))

    def change(self, dataset_id: str, change: DatasetChange, *, owner: str) -> DatasetEntry:
        """Change what may be changed of a dataset, and return it as it is then.

        Raises:
            NotFoundError: There is none.
            DatasetNotReadyError: It arrives, is being checked, or was refused.
        """
        dataset = self.get(dataset_id, owner=owner)
        values = change.model_dump(exclude_none=True)
        if values:
            still = (DatasetRow.id == dataset.id, DatasetRow.owner == owner, DatasetRow.state == "READY")
            with self._database.transaction() as session:
                session.execute(update(DatasetRow).where(*still).values(values))
        return self.entry(dataset.id, owner=owner)

    def page(
        self, *, owner: str, limit: int, state: DatasetState | None = None, cursor: str | None = None
    ) -> tuple[tuple[DatasetEntry, ...], str | None]:
        """Return at most `limit` datasets, newest first, and the cursor of the next part if there is one."""
        states = VISIBLE if state is None else (state,)
        query = select(DatasetRow).where(
            DatasetRow.owner == owner, DatasetRow.state.in_(states), DatasetRow.alias_of.is_(None)
        )
        with self._database.transaction() as session:
            rows, following = newest(session, query, DatasetRow, limit=limit, cursor=cursor)
        return self._readable(rows), following

    def last_rejected(self, *, owner: str, limit: int) -> tuple[DatasetEntry, ...]:
        """Return at most `limit` REJECTED datasets, the last that was refused first, whenever it was begun."""
        query = select(DatasetRow).where(DatasetRow.owner == owner, DatasetRow.state == "REJECTED")
        with self._database.transaction() as session:
            rows = session.scalars(query.order_by(DatasetRow.changed_at.desc(), DatasetRow.id).limit(limit)).all()
        return self._readable(rows)

    def completed(self, seen: DatasetEntry) -> bool:
        """Say that all of a dataset has arrived; return whether it was still as seen."""
        with self._database.transaction() as session:
            return move(session, seen.id, owner=seen.owner, seen=seen.state, to="CHECKING")

    def rejected(self, seen: DatasetEntry, error: Problem) -> bool:
        """Say why a dataset is refused; return whether it was still as seen."""
        told = error.model_dump(mode="json")
        with self._database.transaction() as session:
            return move(
                session,
                seen.id,
                owner=seen.owner,
                seen=seen.state,
                to="REJECTED",
                values={"error": told},
                data={"error": told},
            )

    def accepted(self, seen: DatasetEntry, *, sha256: str, report: DatasetReport, findings: DatasetFindings) -> bool:
        """Say that a dataset can be used; return whether it was still as seen.

        Where its owner has these bytes already, it becomes an alias of that dataset, of which then holds what was said
        of this one.
        """
        with self._database.transaction() as session:
            add_owner(session, seen.owner)  # as in `add`
            known = _of_bytes(session, sha256, owner=seen.owner)
            values: dict[str, object] = {"upload": None, "error": None}
            if known is None:
                values |= {"sha256": sha256, "report": report.model_dump(mode="json")}
                values["findings"] = findings.model_dump(mode="json")
            else:
                values["alias_of"] = known.id
            data = {} if known is None else {"dataset_id": known.id}
            changed = move(session, seen.id, owner=seen.owner, seen=seen.state, to="READY", values=values, data=data)
            said = {} if seen.arrival is None else seen.arrival.model_dump(include=SAID, exclude_none=True)
            if changed and known is not None and said:
                session.execute(update(DatasetRow).where(DatasetRow.id == known.id).values(said))
            return changed

    def content(self, sha256: str) -> AbstractContextManager[None]:
        """Hold the right to put, or to remove, the bytes of that hash, against every service on these records."""
        return self._database.exclusive(f"content {sha256}")

    def is_named(self, sha256: str) -> bool:
        """Return whether a dataset of any owner has these bytes."""
        with self._database.transaction() as session:
            return session.scalar(select(DatasetRow.id).where(DatasetRow.sha256 == sha256).limit(1)) is not None

    def _readable(self, rows: Iterable[DatasetRow]) -> tuple[DatasetEntry, ...]:
        """Leave out what another version wrote and this one cannot read: the others are shown."""
        found = []
        for row in rows:
            try:
                found.append(entry_of(row))
            except ValidationError as error:
                if row.id not in self._unreadable:  # told once, not at every look
                    logger.error("dataset=%s cannot be read and is left out: %s", row.id, error)
                self._unreadable.add(row.id)
        return tuple(found)


def _of_bytes(session: Session, sha256: str, *, owner: str) -> DatasetRow | None:
    # Locked, so that nobody deletes it before this transaction has ended.
    query = select(DatasetRow).where(DatasetRow.sha256 == sha256, DatasetRow.owner == owner).with_for_update()
    return session.scalar(query)


def _visible(session: Session, dataset_id: str, *, owner: str) -> DatasetRow:
    row = _row(session, dataset_id, owner=owner)
    if row is not None and row.alias_of is not None:
        row = _row(session, row.alias_of, owner=owner)
    if row is None:
        raise NotFoundError("no such dataset", got=dataset_id, todo="GET /v1/datasets lists those there are.")
    return row


def _row(session: Session, dataset_id: str, *, owner: str) -> DatasetRow | None:
    visible = (DatasetRow.owner == owner, DatasetRow.state.in_(VISIBLE))
    return session.scalar(select(DatasetRow).where(DatasetRow.id == dataset_id, *visible))


def entry_of(row: DatasetRow) -> DatasetEntry:
    """Return what a row holds. Raises pydantic's `ValidationError` where that is of another version, or damaged."""
    return DatasetEntry(
        id=row.id,
        owner=row.owner,
        name=row.name,
        state=_STATE.validate_python(row.state),
        sha256=row.sha256,
        num_bytes=row.num_bytes,
        report=None if row.report is None else DatasetReport.model_validate(row.report),
        findings=None if row.findings is None else DatasetFindings.model_validate(row.findings),
        source=row.source,
        created_at=moment(row.created_at),
        changed_at=None if row.changed_at is None else moment(row.changed_at),
        meta_use=row.meta_use,
        terms=row.terms,
        arrival=None if row.upload is None else Arrival.model_validate(row.upload),
        declared_sha256=row.declared_sha256,
        error=None if row.error is None else Problem.model_validate(row.error),
        num_tries=row.num_tries,
        num_waits=row.num_waits,
    )
