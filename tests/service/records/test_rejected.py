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


def test_a_record_that_cannot_be_read_is_left_out_and_told_once(database, caplog):
    datasets = DatasetRecords(database)
    good, bad = (
        datasets.expect(new_dataset_id(), name="d", num_bytes=8, arrival=Arrival(), owner="ann") for _ in range(2)
    )
    for entry in (good, bad):
        assert datasets.rejected(entry, Problem(title="No", status=422, code="upload_expired"))
    with database.transaction() as session:
        session.execute(update(DatasetRow).where(DatasetRow.id == bad.id).values(error={"newer": 1}))
    found, following = datasets.page(owner="ann", limit=10)
    assert ([one.id for one in found], following) == ([good.id], None)
    assert [one.id for one in datasets.last_rejected(owner="ann", limit=10)] == [good.id]
    assert [bad.id in record.message for record in caplog.records] == [True]
