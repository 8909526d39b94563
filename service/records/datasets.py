"""The records of datasets."""

import secrets

from sqlalchemy import insert, select, update

from service.errors import NotFoundError
from service.quotas import UNLIMITED, Quotas, Usage
from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.model import Dataset, moment
from service.records.owners import add_owner, require_room
from service.records.pages import newest
from service.records.tables import DatasetRow
from service.schemas import DatasetChange
from workers.contracts.datasets import DatasetFindings, DatasetReport


class DatasetRecords:
    """Datasets of this service; each owner's bytes are recorded once."""

    def __init__(self, database: Database, quotas: Quotas = UNLIMITED) -> None:
        self._database, self._quotas = database, quotas

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
        """Record a dataset; return it and whether it is new. One that is there already stays as it is.

        Raises:
            QuotaExceededError: Its owner may not have so many bytes.
        """
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
        with self._database.transaction() as session:
            add_owner(session, owner)  # of two that bring the same bytes at once, the second sees the first's
            known = session.scalar(select(DatasetRow).where(DatasetRow.sha256 == sha256, DatasetRow.owner == owner))
            if known is not None:
                return _dataset(known), False
            require_room(session, owner, self._quotas, Usage(num_bytes=num_bytes))
            row = session.scalars(insert(DatasetRow).values(values).returning(DatasetRow)).one()
            return _dataset(row), True

    def require_room(self, num_bytes: int, *, owner: str) -> None:
        """Refuse bytes that `add` would refuse if it were called now. Raises `QuotaExceededError`."""
        with self._database.transaction() as session:
            require_room(session, owner, self._quotas, Usage(num_bytes=num_bytes))

    def find(self, sha256: str, *, owner: str) -> Dataset | None:
        """Return the dataset with these bytes, or None."""
        with self._database.transaction() as session:
            row = session.scalar(select(DatasetRow).where(DatasetRow.sha256 == sha256, DatasetRow.owner == owner))
            return None if row is None else _dataset(row)

    def get(self, dataset_id: str, *, owner: str) -> Dataset:
        """Return one dataset. Raises `NotFoundError`."""
        with self._database.transaction() as session:
            row = session.scalar(select(DatasetRow).where(DatasetRow.id == dataset_id, DatasetRow.owner == owner))
        if row is None or row.state != "READY":
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
        query = select(DatasetRow).where(DatasetRow.owner == owner, DatasetRow.state == "READY")
        with self._database.transaction() as session:
            rows, following = newest(session, query, DatasetRow, limit=limit, cursor=cursor)
        return tuple(map(_dataset, rows)), following


def _dataset(row: DatasetRow) -> Dataset:
    return Dataset(
        id=row.id,
        owner=row.owner,
        name=row.name,
        sha256=row.sha256 or "",
        num_bytes=row.num_bytes,
        report=DatasetReport.model_validate(row.report),
        findings=None if row.findings is None else DatasetFindings.model_validate(row.findings),
        source=row.source,
        created_at=moment(row.created_at),
        meta_use=row.meta_use,
        terms=row.terms,
    )
