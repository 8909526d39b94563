from sqlalchemy import update

from service.records.datasets import DatasetRecords, new_dataset_id
from service.records.model import Arrival
from service.records.tables import DatasetRow
from service.schemas import Problem


def test_rejected_datasets_come_in_the_order_of_their_rejection_and_only_their_owners(database):
    datasets = DatasetRecords(database)

    def begun(owner):
        return datasets.expect(new_dataset_id(), name="d", num_bytes=8, arrival=Arrival(), owner=owner)

    first, second, third, begun_only, other = (begun(owner) for owner in ("ann", "ann", "ann", "ann", "bob"))
    for at, entry in enumerate((second, third, other, first)):
        assert datasets.rejected(entry, Problem(title="No", status=422, code="upload_expired"))
        with database.transaction() as session:
            session.execute(update(DatasetRow).where(DatasetRow.id == entry.id).values(changed_at=1e9 + at))
    assert datasets.entry(begun_only.id, owner="ann").changed_at > datasets.entry(first.id, owner="ann").changed_at
    found = [[one.id for one in datasets.last_rejected(owner="ann", limit=limit)] for limit in (2, 5)]
    assert found == [[first.id, third.id], [first.id, third.id, second.id]]
