import pytest

from service.errors import DatasetNotReadyError, IllegalTransitionError, NotFoundError
from service.records.checks import CheckRecords
from service.records.dataset_states import DATASET_TRANSITIONS, move
from service.records.datasets import DatasetRecords, new_dataset_id
from service.records.model import Arrival
from service.records.owners import OwnerRecords
from service.records.tables import EventRow
from service.schemas import Problem
from workers.contracts.datasets import DatasetFindings, DatasetReport

REPORT = DatasetReport(
    classes=("cat", "dog"), num_images=(6, 6), median_size=12, min_size=12, max_size=12, modes={"L": 12}
)
PROBLEM = Problem(title="No zip", status=422, code="invalid_dataset")
OWNER = {"owner": "ann"}


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records.sqlite3'}"
    return request.getfixturevalue("postgresql").new_database()


@pytest.fixture
def datasets(database):
    return DatasetRecords(database)


def begun(datasets, **fields):
    arrival = Arrival(upload_id="u", part_bytes=5, **fields)
    return datasets.expect(new_dataset_id(), name="pets", num_bytes=10, arrival=arrival, **OWNER)


def arrived(datasets, **fields):
    entry = begun(datasets, **fields)
    assert datasets.completed(entry)
    return datasets.entry(entry.id, **OWNER)


def accept(datasets, entry, sha256="a" * 64):
    return datasets.accepted(entry, sha256=sha256, report=REPORT, findings=DatasetFindings())


def events(database, dataset_id):
    with database.transaction() as session:
        rows = session.query(EventRow).filter_by(work_id=dataset_id).order_by(EventRow.sequence)
        return [(row.kind, row.data) for row in rows]


def test_the_table_is_walked_and_nothing_else(database, datasets):
    allowed, walked = 0, {"UPLOADING": begun(datasets).id}
    steps = [(source, target) for source, targets in DATASET_TRANSITIONS.items() for target in targets]
    for source in DATASET_TRANSITIONS:
        for target in DATASET_TRANSITIONS:
            with database.transaction() as session:
                if (source, target) not in steps:
                    with pytest.raises(IllegalTransitionError, match=f"{source} cannot become {target}"):
                        move(session, walked["UPLOADING"], **OWNER, seen=source, to=target)
                else:
                    allowed += 1
    assert allowed == len(steps)
    entry = begun(datasets)
    for source, target in (
        ("UPLOADING", "CHECKING"),
        ("CHECKING", "READY"),
        ("READY", "DELETING"),
        ("DELETING", "DELETED"),
    ):
        for done in (True, False):  # whoever comes second has not seen what is
            with database.transaction() as session:
                assert move(session, entry.id, **OWNER, seen=source, to=target) is done
    assert [kind for kind, _ in events(database, entry.id)] == ["dataset.ready", "dataset.deleted"]
    for find in (datasets.entry, datasets.get):
        with pytest.raises(NotFoundError):
            find(entry.id, **OWNER)
    assert entry.id not in {one.id for one in datasets.page(limit=10, **OWNER)[0]}


def test_of_another_owner_nothing_is_changed(database, datasets):
    entry = begun(datasets)
    with database.transaction() as session:
        assert not move(session, entry.id, owner="bob", seen="UPLOADING", to="CHECKING")
    with pytest.raises(NotFoundError):
        datasets.entry(entry.id, owner="bob")


def test_an_end_is_recorded_once_with_its_event(database, datasets):
    good, bad = arrived(datasets), arrived(datasets)
    assert accept(datasets, good)
    assert not accept(datasets, good)
    assert not datasets.rejected(good, PROBLEM)
    assert datasets.rejected(bad, PROBLEM)
    assert CheckRecords(database).arrived() == ()
    assert datasets.get(good.id, **OWNER).report == REPORT
    with pytest.raises(DatasetNotReadyError, match="was refused"):
        datasets.get(bad.id, **OWNER)
    assert datasets.entry(bad.id, **OWNER).error == PROBLEM
    assert events(database, good.id) == [("dataset.ready", {})]
    ((kind, data),) = events(database, bad.id)
    assert (kind, data["error"]["code"]) == ("dataset.rejected", "invalid_dataset")
    assert OwnerRecords(database).get("ann").num_bytes == 10


def test_the_same_bytes_become_an_alias_of_which_holds_what_was_said(database, datasets):
    first, second = arrived(datasets, meta_use=True), arrived(datasets, meta_use=False, name="mine")
    assert accept(datasets, first)
    assert accept(datasets, second)
    dataset = datasets.get(second.id, **OWNER)
    assert (dataset.id, dataset.meta_use, dataset.name) == (first.id, False, "mine")
    assert events(database, second.id) == [("dataset.ready", {"dataset_id": first.id})]
    assert [one.id for one in datasets.page(limit=10, **OWNER)[0]] == [first.id]
    assert OwnerRecords(database).get("ann").num_bytes == 10
    # Another owner's are its own.
    add = {"name": "x", "sha256": "a" * 64, "num_bytes": 10, "report": REPORT}
    assert datasets.add(**add, owner="bob")[1]
    # Once the older one goes, its alias stands for nothing.
    with database.transaction() as session:
        assert move(session, first.id, **OWNER, seen="READY", to="DELETING", values={"sha256": None})
    with pytest.raises(NotFoundError):
        datasets.entry(second.id, **OWNER)
    assert datasets.is_named("a" * 64)
