import base64
import logging
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text, update
from sqlalchemy.exc import OperationalError, ProgrammingError

from search_spaces.errors import InvalidOptionError
from service.errors import InvalidRequestError
from service.records.database import Database, is_shared
from service.records.datasets import DatasetRecords
from service.records.lease import RECONCILER, Lease
from service.records.tables import AdaptationRow, Base
from service.records.transitions import Change
from workers.contracts.datasets import DatasetReport

REPORT = DatasetReport(
    classes=("cat", "dog"), num_images=(6, 6), median_size=12, min_size=12, max_size=12, modes={"L": 12}
)


def test_migrations_from_nothing_make_the_tables_that_the_code_expects(database):
    with database.connection() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrating_twice_changes_nothing(database):
    database.migrate()
    database.check()


def test_sqlite_lets_readers_and_one_writer_work_at_once(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'records.sqlite3'}")
    database.migrate()
    database.close()
    with sqlite3.connect(tmp_path / "records.sqlite3") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_migration_that_fails_half_way_leaves_nothing(database_url):
    database = Database(database_url)
    with database.connection() as connection:
        connection.execute(text("CREATE TABLE leases (x INTEGER)"))  # in the way of the last table
    with pytest.raises((OperationalError, ProgrammingError), match=r'"?leases"? already exists'):
        database.migrate()
    with database.connection() as connection:
        assert inspect(connection).get_table_names() == ["leases"]
        connection.execute(text("DROP TABLE leases"))
    database.migrate()
    database.close()


@pytest.mark.parametrize("url", ["no url", "mysql://host/name", "postgresql+psycopg2://host/name"])
def test_a_database_of_another_kind_is_refused(url):
    with pytest.raises(InvalidOptionError, match="database"):
        Database(url)


def test_services_that_start_at_once_migrate_once(database_url):
    databases = [Database(database_url) for _ in range(4 if is_shared(database_url) else 1)]
    with ThreadPoolExecutor(len(databases)) as pool:
        list(pool.map(Database.migrate, databases))
    for one in databases:
        one.check()
        one.close()


def test_one_at_a_time_holds_a_lock_of_that_name(database):
    held, order = threading.Event(), []

    def wait_for_it():
        held.wait(20.0)
        with database.exclusive("prior own-v1"):
            order.append("second")

    with ThreadPoolExecutor(1) as pool:
        with database.exclusive("prior own-v1"):
            second = pool.submit(wait_for_it)
            held.set()
            database.check()  # records go on meanwhile
            order.append("first")
        second.result(20.0)
    assert order == ["first", "second"]


def test_the_same_bytes_are_recorded_once(database):
    datasets = DatasetRecords(database)
    values = {"sha256": "a" * 64, "num_bytes": 1, "report": REPORT, "owner": "local"}
    first, is_new = datasets.add(name="one", **values)
    again, is_new_again = datasets.add(name="two", **values)
    assert (is_new, is_new_again) == (True, False)
    assert again == first


def test_each_owner_has_records_of_their_own(database):
    datasets = DatasetRecords(database)
    values = {"name": "one", "sha256": "a" * 64, "num_bytes": 1, "report": REPORT}
    mine, _ = datasets.add(**values, owner="me")
    yours, is_new = datasets.add(**values, owner="you")
    assert is_new
    for owner, dataset in (("me", mine), ("you", yours)):
        (entry,), following = datasets.page(owner=owner, limit=10)
        assert (entry.ready(), following) == (dataset, None)


def test_pages_hold_everything_once_newest_first(records, add_adaptation):
    added = [add_adaptation().id for _ in range(7)]
    found, cursor = [], None
    while True:
        page, cursor = records.page(owner="local", limit=3, cursor=cursor)
        found += [adaptation.id for adaptation in page]
        if cursor is None:
            break
    assert sorted(found) == sorted(added)
    moments = [records.get(one, owner="local").created_at for one in found]
    assert moments == sorted(moments, reverse=True)


def test_a_page_can_hold_one_state_only(records, add_adaptation):
    cancelled = records.request_cancel(add_adaptation().id, owner="local")
    add_adaptation()
    page, _ = records.page(owner="local", limit=10, state="CANCELLED")
    assert page == (cancelled,)


def test_a_record_that_cannot_be_read_does_not_hide_the_others(database, records, add_adaptation, caplog):
    broken, sound = add_adaptation(), add_adaptation()
    with database.transaction() as session:
        session.execute(update(AdaptationRow).where(AdaptationRow.id == broken.id).values(request={"seed": "none"}))
    with caplog.at_level(logging.ERROR, logger="service"):
        assert [one.id for one in records.waiting(1)] == [sound.id]
        assert [one.id for one in records.page(owner="local", limit=10)[0]] == [sound.id]
    assert [broken.id in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "???",
        "1.0:ad-xyz",
        "1e400:ad-1",
        "1.0:ad-1\n",
        "é",
        "9" * 400 + ".0:ad-1",
        base64.b64encode(b"[" * 2000).decode(),
    ],
)
def test_a_cursor_that_is_none_is_refused(records, cursor):
    with pytest.raises(InvalidRequestError, match="not a cursor"):
        records.page(owner="local", limit=3, cursor=cursor)


def test_what_waits_comes_in_the_order_of_arrival_and_knows_its_place(records, add_adaptation):
    first, second, third = (add_adaptation() for _ in range(3))
    records.request_cancel(second.id, owner="local")
    assert [one.id for one in records.waiting()] == [first.id, third.id]
    assert [one.id for one in records.waiting(1)] == [first.id]
    assert records.positions([first, second, third]) == {first.id: 0, third.id: 1}


def test_priority_goes_before_arrival(records, add_adaptation):
    low, first, second, high = (add_adaptation(priority=priority) for priority in (-1, 0, 0, 10))
    assert [one.id for one in records.waiting()] == [high.id, first.id, second.id, low.id]
    assert records.positions([low, high]) == {low.id: 3, high.id: 0}


def test_many_that_arrive_at_once_wait_in_one_order(records, add_adaptation):
    add_adaptation()  # the dataset
    with ThreadPoolExecutor(8) as pool:
        added = {one.id for one in pool.map(lambda _: add_adaptation(), range(40))}
    waiting = [one.id for one in records.waiting()]
    assert set(waiting[1:]) == added
    assert list(records.positions(records.waiting()).values()) == list(range(41))


def test_what_was_lost_waits_at_its_old_place(records, add_adaptation):
    first, second = add_adaptation(), add_adaptation()
    records.change(first, Change(state="RUNNING"))
    assert [one.id for one in records.active()] == [first.id]
    (running,) = records.active()
    records.change(running, Change(state="QUEUED"))
    assert [one.id for one in records.waiting()] == [first.id, second.id]
    assert not records.is_current(running.id, running.attempt)
    assert records.is_current(second.id, second.attempt)


def lease_of(database, holder, ttl_s=30.0):
    return Lease(database, name=RECONCILER, holder=holder, ttl_s=ttl_s)


def test_one_holder_at_a_time_has_the_lease(database):
    assert lease_of(database, "a").acquire()
    assert not lease_of(database, "b").acquire()
    assert lease_of(database, "a").acquire()


def test_a_lease_that_was_released_is_free_at_once(database):
    first = lease_of(database, "a")
    first.acquire()
    first.release()
    assert lease_of(database, "b").acquire()


def test_the_lease_of_a_dead_process_of_the_same_folder_is_freed_and_no_other(database):
    assert lease_of(database, "folder:dead").acquire()
    successor = lease_of(database, "folder:new")
    successor.end_those_of("other")
    assert not successor.acquire()
    successor.end_those_of("folder")
    assert successor.acquire()
    assert not lease_of(database, "folder:dead").acquire()


def test_a_lease_that_is_not_renewed_runs_out(database):
    assert lease_of(database, "dead", ttl_s=-1.0).acquire()
    assert lease_of(database, "b").acquire()


def test_a_release_by_another_does_nothing(database):
    lease_of(database, "a").acquire()
    lease_of(database, "b").release()
    assert not lease_of(database, "b").acquire()


def test_a_lease_that_was_renewed_a_moment_ago_is_not_asked_for_again(database, monkeypatch):
    now_s = [1000.0]
    monkeypatch.setattr("service.records.lease.time.monotonic", lambda: now_s[0])
    mine, yours = lease_of(database, "me"), lease_of(database, "you")
    assert mine.acquire()
    mine.end_those_of("me")
    assert yours.acquire()
    assert mine.keep(), "it was ours a moment ago, for longer than that"
    now_s[0] += 0.2 * 30.0
    assert not mine.keep()
    assert not mine.keep()


def test_a_lease_that_was_given_back_is_not_kept(database):
    mine, yours = lease_of(database, "me"), lease_of(database, "you")
    assert mine.keep()
    mine.release()
    assert yours.acquire()
    assert not mine.keep()


def test_locks_of_other_names_do_not_wait_for_each_other(database):
    entered = threading.Event()

    def other():
        with database.exclusive("content b"):
            entered.set()

    with database.exclusive("content a"):
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(20.0)
        thread.join()
