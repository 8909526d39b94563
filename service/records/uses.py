"""What unfinished work needs: datasets, and the checkpoints from which it goes on.

Whoever records such work, and whoever deletes a dataset, has its owner's transactions follow one another first
(`add_owner`): of two that happen at once, the second sees what the first has done.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.errors import NotFoundError
from service.records.counts import UNFINISHED
from service.records.database import Database
from service.records.tables import AdaptationRow, DatasetRow, MetaRunRow


def require_datasets(session: Session, dataset_ids: Iterable[str]) -> None:
    """Refuse to record work on a dataset that was deleted since it was looked up. Raises `NotFoundError`."""
    wanted = set(dataset_ids)
    ready = select(DatasetRow.id).where(DatasetRow.id.in_(wanted), DatasetRow.state == "READY")
    for gone in sorted(wanted.difference(session.scalars(ready))):
        raise no_such_dataset(gone)


def users_of(session: Session, dataset_id: str, *, owner: str) -> Iterator[str]:
    """Yield the ids of an owner's adaptations and meta-runs that have not ended and need a dataset."""
    adaptations = select(AdaptationRow.id).where(
        AdaptationRow.owner == owner,
        AdaptationRow.state.in_(UNFINISHED[AdaptationRow]),
        AdaptationRow.dataset_id == dataset_id,
    )
    yield from session.scalars(adaptations)
    meta_runs = select(MetaRunRow.id, MetaRunRow.datasets).where(
        MetaRunRow.owner == owner, MetaRunRow.state.in_(UNFINISHED[MetaRunRow])
    )
    for meta_run_id, datasets in session.execute(meta_runs):
        if any(isinstance(one, dict) and one.get("dataset_id") == dataset_id for one in datasets):
            yield meta_run_id


def checkpoints_of(database: Database, meta_run_id: str) -> AbstractContextManager[None]:
    """Hold the right to have a meta-run go on from its checkpoints, or to remove them: never both at once."""
    return database.exclusive(f"checkpoints {meta_run_id}")


def no_such_dataset(dataset_id: str) -> NotFoundError:
    """Return the refusal of an id that no dataset of the owner bears."""
    return NotFoundError("no such dataset", got=dataset_id, todo="GET /v1/datasets lists those there are.")
