import pytest
from sqlalchemy import text

from service.records.checks import CheckRecords
from service.records.datasets import DatasetRecords, new_dataset_id
from service.records.model import Arrival
from service.schemas import Problem
from workers.contracts.datasets import DatasetFindings, DatasetReport

REPORT = DatasetReport(
    classes=("cat", "dog"), num_images=(6, 6), median_size=12, min_size=12, max_size=12, modes={"L": 12}
)
PROBLEM = Problem(title="No such bucket", status=503, code="store_error")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records.sqlite3'}"
    return request.getfixturevalue("postgresql").new_database()


@pytest.fixture
def datasets(database):
    return DatasetRecords(database)


@pytest.fixture
def checks(database):
    return CheckRecords(database)


@pytest.fixture
def begun(datasets):
    """Returns a function that has an owner begin an upload."""

    def one(owner="ann", upload_id="u"):
        arrival = Arrival(upload_id=upload_id, part_bytes=5)
        return datasets.expect(new_dataset_id(), name="pets", num_bytes=10, arrival=arrival, owner=owner)

    return one


@pytest.fixture
def arrived(datasets, begun):
    """Returns a function that has a dataset of an owner arrive."""

    def one(owner="ann"):
        entry = begun(owner)
        assert datasets.completed(entry)
        return datasets.entry(entry.id, owner=owner)

    return one


@pytest.fixture
def end_pauses(database):
    """Returns a function that has the time pass for which datasets were put off."""

    def end():
        with database.connection() as connection:
            connection.execute(text("UPDATE datasets SET check_after = check_after - 1000000"))

    return end


def test_a_round_has_the_oldest_dataset_of_each_owner(datasets, checks, arrived):
    first, second = arrived("ann"), arrived("ann")
    other = arrived("bob")
    assert checks.arrived() == (first, other)
    assert datasets.accepted(first, sha256="a" * 64, report=REPORT, findings=DatasetFindings())
    assert checks.arrived() == (second, other)


def test_datasets_that_fail_keep_no_place_before_others(checks, arrived, end_pauses):
    failing, fine = [arrived() for _ in range(120)], arrived()
    for entry in failing:
        assert checks.begin(entry, pause_s=300.0)
        checks.put_off(entry, PROBLEM, pause_s=300.0, counts=False)
    assert checks.arrived() == (fine,)
    end_pauses()
    (again,) = checks.arrived()
    assert again.id == failing[0].id


def test_what_was_put_off_waits_behind_what_has_come_before_it_is_due(checks, arrived):
    first, second = arrived(), arrived()
    checks.begin(first, pause_s=300.0)
    checks.put_off(first, PROBLEM, pause_s=0.0, counts=False)
    assert checks.arrived() == (second,)


def test_a_try_counts_once_it_has_begun_unless_it_is_said_otherwise(datasets, checks, arrived):
    def counted():
        now = datasets.entry(seen.id, owner="ann")
        return now.num_tries, now.num_waits, now.error

    seen = arrived()
    assert checks.begin(seen, pause_s=300.0)
    assert counted() == (1, 1, None)
    assert not checks.begin(seen, pause_s=300.0)  # by another, who has seen the same
    checks.put_off(seen, PROBLEM, pause_s=0.0, counts=False)
    assert counted() == (0, 1, PROBLEM)
    seen = datasets.entry(seen.id, owner="ann")
    assert checks.begin(seen, pause_s=300.0)
    checks.put_off(seen, PROBLEM, pause_s=0.0, counts=True)
    assert counted() == (1, 2, PROBLEM)


def test_a_try_that_is_given_back_was_never_there(checks, arrived):
    seen = arrived()
    assert checks.begin(seen, pause_s=300.0)
    assert checks.arrived() == ()
    checks.give_back(seen)
    assert checks.arrived() == (seen,)


def test_of_what_is_settled_nothing_is_put_off(datasets, checks, arrived):
    seen = arrived()
    assert checks.begin(seen, pause_s=300.0)
    assert datasets.rejected(seen, PROBLEM)
    checks.put_off(seen, PROBLEM.model_copy(update={"title": "Another"}), pause_s=0.0, counts=True)
    assert datasets.entry(seen.id, owner="ann").error == PROBLEM
    assert not checks.begin(seen, pause_s=0.0)


def test_why_it_had_to_wait_is_no_longer_told_of_what_is_ready(datasets, checks, arrived):
    seen = arrived()
    assert checks.begin(seen, pause_s=300.0)
    checks.put_off(seen, PROBLEM, pause_s=0.0, counts=True)
    assert datasets.accepted(seen, sha256="a" * 64, report=REPORT, findings=DatasetFindings())
    assert datasets.entry(seen.id, owner="ann").error is None


def test_a_row_that_cannot_be_read_is_told_once_and_keeps_no_other_from_its_turn(
    database, checks, begun, arrived, caplog
):
    damaged, overdue, following, other = arrived("ann"), begun("ann"), arrived("ann"), arrived("bob")
    with database.connection() as connection:
        damage = text("UPDATE datasets SET upload = :upload WHERE id IN (:first, :second)")
        connection.execute(damage, {"upload": '{"way": "air"}', "first": damaged.id, "second": overdue.id})
    assert checks.arrived() == (other,)
    for _ in range(2):
        assert checks.arrived() == (following, other)
        assert checks.overdue(expires_s=-1.0) == ()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert (damaged.id in told[0], overdue.id in told[1]) == (True, True)


def test_what_is_not_completed_is_overdue_one_day(checks, begun, arrived):
    entry = begun()
    arrived()
    assert checks.overdue(expires_s=60.0) == ()
    assert checks.overdue(expires_s=-1.0) == (entry,)


def test_uploads_are_those_of_what_is_not_settled(database, datasets, checks, begun, arrived):
    waiting, checked, refused, damaged = begun(upload_id="w"), arrived(), arrived(), arrived()
    assert datasets.rejected(refused, PROBLEM)
    with database.connection() as connection:
        damage = text("UPDATE datasets SET upload = '[1]' WHERE id = :id")
        connection.execute(damage, {"id": damaged.id})
    assert set(checks.uploads()) == {(waiting.id, "w"), (checked.id, "u")}
