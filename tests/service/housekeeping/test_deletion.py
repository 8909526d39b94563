"""A dataset is deleted, whatever state it is in and whoever is about to use it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from service.errors import ConflictError, NotFoundError
from service.records.adaptations import AdaptationRecords
from service.records.datasets import DatasetRecords, new_dataset_id
from service.records.events import EventRecords
from service.records.housekeeping import HousekeepingRecords
from service.records.meta_runs import MetaRunRecords
from service.records.model import Arrival
from service.records.tables import DatasetRow
from service.records.transitions import Change
from service.schemas import Problem
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.datasets import DatasetFindings, DatasetReport
from workers.contracts.meta_runs import DatasetChoice, MetaDataset, MetaRunRequest
from workers.store import layout

REPORT = DatasetReport(
    classes=("cat", "dog"), num_images=(6, 6), median_size=12, min_size=12, max_size=12, modes={"L": 12}
)
SHA256 = "a" * 64
OWNER = {"owner": "local"}
both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def datasets(database):
    return DatasetRecords(database)


@pytest.fixture
def keeping(database):
    return HousekeepingRecords(database)


@pytest.fixture
def dataset(datasets, store):
    """A dataset with its bytes."""
    for key in (layout.dataset_archive(SHA256), layout.dataset_report(SHA256)):
        store.put_bytes(key, b"bytes")
    return add(datasets)


def add(datasets, owner="local"):
    return datasets.add(name="pets", sha256=SHA256, num_bytes=10, report=REPORT, owner=owner, meta_use=True)[0]


def adaptation_of(dataset):
    return AdaptationRequest(dataset_id=dataset.id, prior="none")


def row_of(database, dataset_id):
    with database.transaction() as session:
        return session.scalar(select(DatasetRow).where(DatasetRow.id == dataset_id))


def keys(store):
    return {one.key for one in store.list("")}


def kinds(database, dataset_id):
    return [event.kind for event in EventRecords(database).page(dataset_id, after=0, limit=10)]


@both
def test_what_is_deleted_is_gone_at_once_and_its_bytes_soon(database, datasets, keeping, dataset, store, housekeeper):
    keeping.delete_dataset(dataset.id, **OWNER)
    for ask in (datasets.get, datasets.entry, keeping.delete_dataset):
        with pytest.raises(NotFoundError):
            ask(dataset.id, **OWNER)
    assert datasets.page(limit=10, **OWNER) == ((), None)
    assert datasets.find(SHA256, **OWNER) is None
    row = row_of(database, dataset.id)
    assert (row.state, row.name, row.sha256, row.report, row.terms) == ("DELETING", "", None, None, "")
    housekeeper.sweep()
    assert keys(store) == set()
    row = row_of(database, dataset.id)
    assert (row.state, row.declared_sha256) == ("DELETED", None)
    assert kinds(database, dataset.id) == ["dataset.ready", "dataset.deleted"]


def test_bytes_that_another_owner_has_too_stay_for_that_one(datasets, keeping, dataset, store, housekeeper):
    theirs = add(datasets, owner="you")
    before = keys(store)
    with pytest.raises(NotFoundError):
        keeping.delete_dataset(theirs.id, **OWNER)
    keeping.delete_dataset(dataset.id, **OWNER)
    housekeeper.sweep()
    assert keys(store) == before
    keeping.delete_dataset(theirs.id, owner="you")
    housekeeper.sweep()
    assert keys(store) == set()


def test_the_same_bytes_again_are_a_new_dataset_whose_bytes_stay(datasets, keeping, dataset, store, housekeeper):
    before = keys(store)
    keeping.delete_dataset(dataset.id, **OWNER)
    again = add(datasets)
    assert again.id != dataset.id
    housekeeper.sweep()
    assert keys(store) == before


def test_what_arrives_or_was_refused_is_deleted_with_what_has_arrived(
    database, datasets, keeping, store, housekeeper, tmp_path
):
    ids = {}
    for state in ("UPLOADING", "CHECKING", "REJECTED"):
        dataset_id = ids[state] = new_dataset_id()
        upload = store.begin_upload(layout.upload(dataset_id), num_bytes=5)
        store.put_part(layout.upload(dataset_id), upload.id, 1, b"bytes")
        arrival = Arrival(upload_id=upload.id, part_bytes=upload.part_bytes)
        entry = datasets.expect(dataset_id, name="pets", num_bytes=5, arrival=arrival, **OWNER)
        if state != "UPLOADING":
            store.complete_upload(layout.upload(dataset_id), upload.id, num_bytes=5)
            assert datasets.completed(entry)
        if state == "REJECTED":
            problem = Problem(title="No", status=422, code="invalid_dataset")
            assert datasets.rejected(datasets.entry(dataset_id, **OWNER), problem)
    checked = datasets.entry(ids["CHECKING"], **OWNER)
    for dataset_id in ids.values():
        keeping.delete_dataset(dataset_id, **OWNER)
    assert not datasets.accepted(checked, sha256=SHA256, report=REPORT, findings=DatasetFindings())
    housekeeper.sweep()
    assert keys(store) == set()
    assert not list((tmp_path / "objects" / ".partial").iterdir())
    assert {row_of(database, dataset_id).state for dataset_id in ids.values()} == {"DELETED"}


@both
def test_of_a_deleted_dataset_no_event_tells_why_it_was_refused(database, datasets, keeping):
    entries = [
        datasets.expect(new_dataset_id(), name="pets", num_bytes=5, arrival=Arrival(), **OWNER) for _ in range(2)
    ]
    for entry in entries:
        told = ("Ann Smith/passport.png: no image",)
        assert datasets.rejected(entry, Problem(title="No", status=422, code="invalid_dataset", errors=told))
    keeping.delete_dataset(entries[0].id, **OWNER)
    gone, kept = (
        [(one.kind, one.data) for one in EventRecords(database).page(entry.id, after=0, limit=10)] for entry in entries
    )
    assert gone == [("dataset.rejected", {}), ("dataset.deleted", {})]
    assert "Ann Smith" in str(kept)


def test_a_row_of_another_version_keeps_nothing_from_being_removed(database, datasets, keeping, store, housekeeper):
    for _ in range(2):
        dataset_id = new_dataset_id()
        upload = store.begin_upload(layout.upload(dataset_id), num_bytes=5)
        arrival = Arrival(upload_id=upload.id, part_bytes=upload.part_bytes)
        datasets.expect(dataset_id, name="pets", num_bytes=5, arrival=arrival, **OWNER)
        keeping.delete_dataset(dataset_id, **OWNER)
        with database.transaction() as session:
            newer = {**row_of(database, dataset_id).upload, "compression": "zstd"}
            session.execute(update(DatasetRow).where(DatasetRow.id == dataset_id).values(upload=newer))
    housekeeper.sweep()
    assert row_of(database, dataset_id).state == "DELETED"


def test_parts_of_what_was_refused_are_kept_for_the_retention(database, datasets, store, housekeeper, tmp_path):
    dataset_id = new_dataset_id()
    upload = store.begin_upload(layout.upload(dataset_id), num_bytes=10)
    store.put_part(layout.upload(dataset_id), upload.id, 1, b"bytes")
    arrival = Arrival(upload_id=upload.id, part_bytes=upload.part_bytes)
    entry = datasets.expect(dataset_id, name="pets", num_bytes=10, arrival=arrival, **OWNER)
    assert datasets.rejected(entry, Problem(title="No", status=422, code="upload_expired"))
    housekeeper.gc(apply=True)
    parts = tmp_path / "objects" / ".partial"
    assert list(parts.iterdir()), "whoever was killed before it forgot them"
    with database.transaction() as session:
        session.execute(update(DatasetRow).values(changed_at=0.0))
    housekeeper.gc(apply=True)
    assert not list(parts.iterdir())
    assert datasets.entry(dataset_id, **OWNER).arrival is None
    housekeeper.gc(apply=True)


@both
def test_aliases_go_with_the_dataset_and_stand_for_it(database, datasets, keeping, dataset):
    alias = new_dataset_id()
    arriving = datasets.expect(alias, name="again", num_bytes=10, arrival=Arrival(), source="s3://b/k", **OWNER)
    assert datasets.accepted(arriving, sha256=SHA256, report=REPORT, findings=DatasetFindings())
    assert datasets.get(alias, **OWNER).id == dataset.id
    keeping.delete_dataset(alias, **OWNER)
    for dataset_id in (alias, dataset.id):
        with pytest.raises(NotFoundError):
            datasets.entry(dataset_id, **OWNER)
        assert row_of(database, dataset_id).state == "DELETING"


def test_what_unfinished_work_needs_is_not_deleted(database, datasets, keeping, dataset):
    adaptations, meta_runs = AdaptationRecords(database), MetaRunRecords(database)
    adaptation = adaptations.add(adaptation_of(dataset), dataset, **OWNER)
    meta_run = meta_runs.add(*learning_from(dataset), **OWNER)
    with pytest.raises(ConflictError, match=f"{adaptation.id}, {meta_run.id}"):
        keeping.delete_dataset(dataset.id, **OWNER)
    assert adaptations.change(adaptation, Change(state="CANCELLED"))
    with pytest.raises(ConflictError, match=meta_run.id):
        keeping.delete_dataset(dataset.id, **OWNER)
    meta_runs.request_stop(meta_run.id, **OWNER)
    keeping.delete_dataset(dataset.id, **OWNER)
    with pytest.raises(NotFoundError, match=dataset.id):
        meta_runs.request_resume(meta_run.id, **OWNER)
    assert adaptations.get(adaptation.id, **OWNER).dataset_sha256 == SHA256


def test_work_on_what_was_deleted_meanwhile_is_refused(database, datasets, keeping, dataset):
    keeping.delete_dataset(dataset.id, **OWNER)
    with pytest.raises(NotFoundError, match=dataset.id):
        AdaptationRecords(database).add(adaptation_of(dataset), dataset, **OWNER)
    with pytest.raises(NotFoundError, match=dataset.id):
        MetaRunRecords(database).add(*learning_from(dataset), **OWNER)


@both
def test_of_a_deletion_and_work_at_the_same_moment_one_is_refused(database, datasets, keeping):
    adaptations = AdaptationRecords(database)
    outcomes = set()
    for number in range(12):
        dataset, _ = datasets.add(name="pets", sha256=f"{number:064x}", num_bytes=1, report=REPORT, **OWNER)
        together = threading.Barrier(2)

        def outcome(act, together=together):
            together.wait()
            try:
                act()
            except (ConflictError, NotFoundError) as error:
                return type(error).__name__
            return "done"

        with ThreadPoolExecutor(2) as pool:
            deleted = pool.submit(outcome, lambda dataset=dataset: keeping.delete_dataset(dataset.id, **OWNER))
            added = pool.submit(
                outcome, lambda dataset=dataset: adaptations.add(adaptation_of(dataset), dataset, **OWNER)
            )
        outcomes.add((deleted.result(), added.result()))
    assert outcomes <= {("done", "NotFoundError"), ("ConflictError", "done")}


def learning_from(dataset):
    described = MetaDataset(
        dataset_id=dataset.id,
        name=dataset.name,
        sha256=dataset.sha256,
        archive_key=layout.dataset_archive(dataset.sha256),
        report_key=layout.dataset_report(dataset.sha256),
        meta_train=REPORT.classes,
    )
    return MetaRunRequest(datasets=(DatasetChoice(dataset_id=dataset.id),)), (described,)
