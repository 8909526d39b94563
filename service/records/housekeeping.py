"""Deleting a dataset, and what the records say of objects and rows that nobody may need any more."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, inspect, or_, select, tuple_, update
from sqlalchemy.orm import Session, aliased

from service.errors import ConflictError
from service.records.clock import DatabaseNow
from service.records.counts import UNFINISHED
from service.records.database import Database
from service.records.dataset_states import DATASET_TRANSITIONS, move
from service.records.facts import DatasetFacts, PriorFacts, Remains, WorkFacts
from service.records.idempotency import KEPT_S
from service.records.model import StoredDatasetState
from service.records.owners import add_owner
from service.records.tables import (
    AdaptationRow,
    AuditRow,
    Base,
    DatasetRow,
    DeliveryRow,
    EventRow,
    IdempotencyRow,
    MetaRunRow,
    PriorRow,
    WebhookRow,
    WorkRow,
)
from service.records.uses import checkpoints_of, no_such_dataset, users_of

NUM_ROWS: Final = 1000
"""Rows that one transaction removes, so that nobody waits long for it."""
NUM_REMAINS: Final = 100
"""Datasets of which one look returns what is left."""
NUM_USERS_NAMED: Final = 5
DELETABLE: Final[tuple[StoredDatasetState, ...]] = tuple(
    state for state, following in DATASET_TRANSITIONS.items() if "DELETING" in following
)
# Names of classes and of files can be personal data, too.
ERASED: Final[Mapping[str, object]] = {
    "name": "",
    "sha256": None,
    "report": None,
    "findings": None,
    "source": None,
    "error": None,
    "meta_use": False,
    "terms": "",
}


class HousekeepingRecords:
    """What housekeeping asks the records, of all owners, and what it changes in them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def delete_dataset(self, dataset_id: str, *, owner: str) -> None:
        """Delete a dataset: from then on nobody finds it, and its row says no more than that there was one.

        Its aliases go with it; the id of an alias stands for the dataset. Its bytes are removed later.

        Raises:
            NotFoundError: There is none.
            ConflictError: Work that has not ended needs it.
        """
        with self._database.transaction() as session:
            add_owner(session, owner)  # work that is recorded at this moment is seen here, or sees what was done here
            row = _row(session, dataset_id, owner=owner)
            users = tuple(users_of(session, row.id, owner=owner))
            if users:
                more = len(users) - NUM_USERS_NAMED
                named = ", ".join(users[:NUM_USERS_NAMED]) + (f" and {more} more" if more > 0 else "")
                todo = "Wait until that has ended, or cancel it."
                raise ConflictError(f"the dataset is used by {named}", got=row.id, todo=todo)
            for one in (row, *session.scalars(_deletable(owner).where(DatasetRow.alias_of == row.id)).all()):
                _delete(session, one)

    def deleted(self) -> tuple[Remains, ...]:
        """Return what may be left of deleted datasets of every owner, of those deleted first."""
        return self._remains(DatasetRow.state == "DELETING")

    def refused(self, retention_s: float) -> tuple[Remains, ...]:
        """Return what may be left of datasets that were refused so many seconds ago."""
        is_old = DatasetRow.changed_at < DatabaseNow() - retention_s
        return self._remains(and_(DatasetRow.state == "REJECTED", DatasetRow.upload.is_not(None), is_old))

    def forget(self, remains: Remains) -> None:
        """Record that nothing is left of a dataset that was deleted or refused."""
        nothing = {"declared_sha256": None, "upload": None}
        own = (DatasetRow.id == remains.dataset_id, DatasetRow.state == "REJECTED")
        with self._database.transaction() as session:
            session.execute(update(DatasetRow).where(*own).values(upload=None))
            move(session, remains.dataset_id, owner=remains.owner, seen="DELETING", to="DELETED", values=nothing)

    def checkpoints(self, meta_run_id: str) -> AbstractContextManager[None]:
        """Hold the right to remove a meta-run's checkpoints: nobody has it go on from them meanwhile."""
        return checkpoints_of(self._database, meta_run_id)

    def now(self) -> float:
        """Return the database's time, in seconds since the epoch."""
        with self._database.transaction() as session:
            return float(session.scalar(select(DatabaseNow())) or 0.0)

    def named(self, hashes: Collection[str]) -> frozenset[str]:
        """Return those of the hashes that a dataset of any owner has."""
        query = select(DatasetRow.sha256).where(DatasetRow.sha256.in_(hashes))
        with self._database.transaction() as session:
            return frozenset(sha256 for sha256 in session.scalars(query) if sha256 is not None)

    def datasets(self, ids: Collection[str]) -> Mapping[str, DatasetFacts]:
        """Return what is to be known of datasets, by id; of those that have a row."""
        query = select(DatasetRow.id, DatasetRow.state, DatasetRow.changed_at).where(DatasetRow.id.in_(ids))
        with self._database.transaction() as session:
            rows = session.execute(query).all()
        return {dataset_id: DatasetFacts(state=state, changed_at=changed_at) for dataset_id, state, changed_at in rows}

    def adaptations(self, ids: Collection[str]) -> Mapping[str, WorkFacts]:
        """Return what is to be known of adaptations, by id; of those that have a row."""
        return self._works(AdaptationRow, ids)

    def meta_runs(self, ids: Collection[str]) -> Mapping[str, WorkFacts]:
        """Return what is to be known of meta-runs, by id; of those that have a row."""
        return self._works(MetaRunRow, ids)

    def priors(self, ids: Collection[str]) -> Mapping[str, PriorFacts]:
        """Return what is to be known of priors, by id; of those that have a row, or will get one."""
        rows = select(PriorRow.id, PriorRow.deleted_at).where(PriorRow.id.in_(ids))
        unfinished = select(MetaRunRow.prior_id).where(MetaRunRow.state.in_(UNFINISHED[MetaRunRow]))
        with self._database.transaction() as session:
            awaited = tuple(session.scalars(unfinished))
            found: dict[str, PriorFacts] = {
                prior_id: "kept" if deleted_at is None else "deleted" for prior_id, deleted_at in session.execute(rows)
            }
        for prior_id in ids:
            # What is stopped early adds its number of steps to the name.
            if any(prior_id == name or prior_id.startswith(f"{name}-s") for name in awaited):
                found.setdefault(prior_id, "kept")
        return found

    def num_old(self, retention_s: float) -> Mapping[str, int]:
        """Return how many rows nobody needs any more, by table."""
        with self._database.transaction() as session:
            return {
                row.__tablename__: session.scalar(select(func.count()).select_from(row).where(old)) or 0
                for row, old in _old_rows(retention_s)
            }

    def remove_old(self, retention_s: float) -> Iterator[tuple[str, int]]:
        """Remove rows that nobody needs any more; yield, after each transaction, from which table and how many."""
        for row, old in _old_rows(retention_s):
            key = tuple(inspect(row).primary_key)
            removed = delete(row).where(tuple_(*key).in_(select(*key).where(old).limit(NUM_ROWS))).returning(key[0])
            while True:
                with self._database.transaction() as session:
                    rows = session.execute(removed.execution_options(synchronize_session=False)).all()
                yield row.__tablename__, len(rows)
                if len(rows) < NUM_ROWS:
                    break

    def _remains(self, which: ColumnElement[bool]) -> tuple[Remains, ...]:
        query = select(DatasetRow).where(which).order_by(DatasetRow.changed_at, DatasetRow.id).limit(NUM_REMAINS)
        with self._database.transaction() as session:
            return tuple(map(_remains, session.scalars(query)))

    def _works(self, row: type[WorkRow], ids: Collection[str]) -> Mapping[str, WorkFacts]:
        query = select(row.id, row.state, row.attempt, row.finished_at).where(row.id.in_(ids))
        with self._database.transaction() as session:
            rows = session.execute(query).all()
        return {
            work_id: WorkFacts(
                state=state, attempt=attempt, ended=state not in UNFINISHED[row], finished_at=finished_at
            )
            for work_id, state, attempt, finished_at in rows
        }


def _row(session: Session, dataset_id: str, *, owner: str) -> DatasetRow:
    """Return the row of a dataset that can be deleted; of an alias, that of the dataset for which it stands."""
    row = session.scalar(_deletable(owner).where(DatasetRow.id == dataset_id))
    if row is not None and row.alias_of is not None:
        row = session.scalar(_deletable(owner).where(DatasetRow.id == row.alias_of))
    if row is None:
        raise no_such_dataset(dataset_id)
    return row


def _deletable(owner: str) -> Select[DatasetRow]:
    # Locked: a check may end at this moment.
    return select(DatasetRow).where(DatasetRow.owner == owner, DatasetRow.state.in_(DELETABLE)).with_for_update()


def _delete(session: Session, row: DatasetRow) -> None:
    state = next(state for state in DELETABLE if state == row.state)
    # Under which hash its bytes lie has to be known until they are gone.
    values = {**ERASED, "declared_sha256": row.sha256}
    session.execute(update(EventRow).where(EventRow.work_id == row.id).values(data={}))  # a refusal names files
    move(session, row.id, owner=row.owner, seen=state, to="DELETING", values=values)


def _remains(row: DatasetRow) -> Remains:
    # No more of it is read than that: a row of another version keeps nothing else from being removed.
    named = row.upload.get("upload_id") if isinstance(row.upload, dict) else None
    upload_id = named if isinstance(named, str) else None
    sha256 = row.declared_sha256 if row.state == "DELETING" else None
    return Remains(
        dataset_id=row.id, owner=row.owner, sha256=sha256, upload_id=upload_id if isinstance(upload_id, str) else None
    )


def _old_rows(retention_s: float) -> tuple[tuple[type[Base], ColumnElement[bool]], ...]:
    """Return what is no longer needed of each table; deliveries before the events and webhooks that they name.

    The last event of each work stays: the number of the next follows from it. So do events of what has not ended, and
    those that are still to be sent.
    """
    then = DatabaseNow() - retention_s
    later, delivery = aliased(EventRow), aliased(DeliveryRow)
    of_event = and_(delivery.work_id == EventRow.work_id, delivery.sequence == EventRow.sequence)
    unfinished = (
        *(EventRow.work_id.in_(select(row.id).where(row.state.in_(states))) for row, states in UNFINISHED.items()),
        EventRow.work_id.in_(select(DatasetRow.id).where(DatasetRow.state.in_(("UPLOADING", "CHECKING")))),
    )
    return (
        (IdempotencyRow, IdempotencyRow.created_at <= DatabaseNow() - KEPT_S),
        (DeliveryRow, and_(DeliveryRow.created_at < then, DeliveryRow.next_at.is_(None))),
        (
            EventRow,
            and_(
                EventRow.created_at < then,
                exists().where(later.work_id == EventRow.work_id, later.sequence > EventRow.sequence),
                ~or_(*unfinished),
                ~exists().where(of_event),
            ),
        ),
        (WebhookRow, and_(WebhookRow.deleted_at < then, ~exists().where(delivery.webhook_id == WebhookRow.id))),
        (AuditRow, AuditRow.at < then),
    )
