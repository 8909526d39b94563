"""The records of datasets."""

import secrets

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from service.errors import NotFoundError
from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.model import Dataset, moment
from service.records.pages import newest
from service.records.tables import DatasetRow
from service.schemas import DatasetChange
from workers.contracts.datasets import DatasetReport


class DatasetRecords:
    """Datasets of this service; each owner's bytes are recorded once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        *,
        name: str,
        sha256: str,
        num_bytes: int,
        report: DatasetReport,
        owner: str,
        meta_use: bool = False,
        terms: str | None = None,
    ) -> tuple[Dataset, bool]:
        """Record a dataset; return it and whether it is new. One that is there already stays as it is."""
        values = {
            "id": f"ds-{secrets.token_hex(6)}",
            "owner": owner,
            "name": name,
            "sha256": sha256,
            "num_bytes": num_bytes,
            "report": report.model_dump(mode="json"),
            "created_at": DatabaseNow(),
            "meta_use": meta_use,
            **({} if terms is None else {"terms": terms}),
        }
        try:
            with self._database.transaction() as session:
                row = session.scalars(insert(DatasetRow).values(values).returning(DatasetRow)).one()
                return _dataset(row), True
        except IntegrityError:
            found = self.find(sha256, owner=owner)
            if found is None:
                raise
            return found, False

    def find(self, sha256: str, *, owner: str) -> Dataset | None:
        """Return the dataset with these bytes, or None."""
        with self._database.transaction() as session:
            row = session.scalar(select(DatasetRow).where(DatasetRow.sha256 == sha256, DatasetRow.owner == owner))
            return None if row is None else _dataset(row)

    def get(self, dataset_id: str, *, owner: str) -> Dataset:
        """Return one dataset. Raises `NotFoundError`."""
        with self._database.transaction() as session:
            row = session.scalar(select(DatasetRow).where(DatasetRow.id == dataset_id, DatasetRow.owner == owner))
        if row is None:
            raise NotFoundError("no such dataset", got=dataset_id, todo="GET /v1/datasets lists those there are.")
        return _dataset(row)

    def change(self, dataset_id: str, change: DatasetChange, *, owner: str) -> Dataset:
        """Change what may be changed of a dataset, and return it as it is then. Raises `NotFoundError`."""
        values = change.model_dump(exclude_none=True)
        if values:
            of_owner = (DatasetRow.id == dataset_id, DatasetRow.owner == owner)
            with self._database.transaction() as session:
                session.execute(update(DatasetRow).where(*of_owner).values(values))
        return self.get(dataset_id, owner=owner)

    def page(self, *, owner: str, limit: int, cursor: str | None = None) -> tuple[tuple[Dataset, ...], str | None]:
        """Return at most `limit` datasets, newest first, and the cursor of the next part if there is one."""
        query = select(DatasetRow).where(DatasetRow.owner == owner)
        with self._database.transaction() as session:
            rows, following = newest(session, query, DatasetRow, limit=limit, cursor=cursor)
        return tuple(map(_dataset, rows)), following


def _dataset(row: DatasetRow) -> Dataset:
    return Dataset(
        id=row.id,
        owner=row.owner,
        name=row.name,
        sha256=row.sha256,
        num_bytes=row.num_bytes,
        report=DatasetReport.model_validate(row.report),
        created_at=moment(row.created_at),
        meta_use=row.meta_use,
        terms=row.terms,
    )
