import errno
import hashlib
import logging

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from service.datasets.checker import NUM_TRIES, Checker, limits_for, pause_after
from service.datasets.contents import Contents
from service.datasets.sources import Sources
from service.disk import Disk
from service.housekeeping.tenure import holding, new_lease
from service.records.checks import CheckRecords
from service.records.datasets import DatasetRecords, new_dataset_id
from service.records.model import Arrival
from workers.contracts.errors import StoreError
from workers.store import layout
from workers.tasks.archive import check_archive
from workers.tasks.check_process import CheckFailedError, CheckKilledError, Checks
from workers.tasks.limits import ArchiveLimits

OWNER = {"owner": "ann"}
MORE_THAN_ANY_DISK = 1 << 60
NO_SOURCE, ANY_SOURCE = Sources(prefixes=()), Sources(prefixes=("s3://bucket/",))


@pytest.fixture(autouse=True)
def check_here(monkeypatch):
    """Archives are checked without a process of their own, which takes a while to start."""
    monkeypatch.setattr(
        "service.datasets.checker.run_check",
        lambda path, limits, checks: check_archive(path, limits),
    )


@pytest.fixture
def datasets(database):
    return DatasetRecords(database)


@pytest.fixture
def new_checker(database, datasets, store, tmp_path):
    def make(store=store, expires_s=60, reserve_bytes=0, store_disk=None, sources=NO_SOURCE):
        return Checker(
            records=CheckRecords(database),
            datasets=datasets,
            store=store,
            contents=Contents(datasets=datasets, store=store),
            sources=sources,
            checks=Checks(),
            disk=Disk(folder=tmp_path, reserve_bytes=reserve_bytes),
            store_disk=store_disk,
            housekeeping=new_lease(database, holder="test"),
            max_bytes=1 << 30,
            expires_s=expires_s,
        )

    return make


@pytest.fixture
def step(database):
    """Returns a function that has a checker settle what there is, as if all that was put off were due again."""

    def one(checker):
        with database.connection() as connection:
            connection.execute(text("UPDATE datasets SET check_after = NULL"))
        for entry in checker.due():
            checker.settle(entry)

    return one


@pytest.fixture
def arrive(datasets, store):
    """Returns a function that has a dataset arrive whole, or but for its last part."""

    def one(data, *, complete=True, owner="ann"):
        dataset_id = new_dataset_id()
        key = layout.upload(dataset_id)
        upload = store.begin_upload(key, num_bytes=len(data))
        arrival = Arrival(upload_id=upload.id, part_bytes=upload.part_bytes)
        entry = datasets.expect(dataset_id, name="pets", num_bytes=len(data), arrival=arrival, owner=owner)
        if complete:
            store.put_part(key, upload.id, 1, data)
            datasets.completed(entry)
        return datasets.entry(dataset_id, owner=owner)

    return one


@pytest.fixture
def copied(datasets):
    """A dataset that is copied from a bucket."""
    return datasets.expect(
        new_dataset_id(), name="x", num_bytes=9, arrival=Arrival(), source="s3://bucket/x.zip", **OWNER
    )


@pytest.fixture
def check_ends(monkeypatch):
    """Returns a function that has each check end with an error from then on."""

    def by(error):
        def fail(*_):
            raise error

        monkeypatch.setattr("service.datasets.checker.run_check", fail)

    return by


class Broken:
    """A store of which one method fails once, before or after it has done its work."""

    def __init__(self, store, method, *, after):
        self._store, self._method, self._after = store, method, after
        self.failed = False

    def __getattr__(self, name):
        inner = getattr(self._store, name)
        if name != self._method or self.failed:
            return inner

        def fail(*arguments, **options):
            self.failed = True
            if self._after:
                inner(*arguments, **options)
            raise StoreError("the store is away")

        return fail


class Remote:
    """A store whose objects are no files of this machine."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def local_path(self, key):
        return None


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", ["complete_upload", "local_path", "put_file", "put_bytes", "delete"])
def test_a_check_that_is_broken_off_anywhere_is_done_again(
    datasets, store, new_checker, step, arrive, small_zip, method, after
):
    entry = arrive(small_zip)
    broken = Broken(store, method, after=after)
    checker = new_checker(broken)
    step(checker)
    assert broken.failed
    was_settled = method == "delete"  # what is left behind then keeps no dataset waiting
    assert (datasets.entry(entry.id, **OWNER).state == "READY") == was_settled
    step(checker)
    dataset = datasets.get(entry.id, **OWNER)
    assert dataset.sha256 == hashlib.sha256(small_zip).hexdigest()
    assert store.get_bytes(layout.dataset_archive(dataset.sha256)) == small_zip


def test_an_archive_whose_findings_cannot_be_stored_is_removed_again(store, new_checker, step, arrive, small_zip):
    entry = arrive(small_zip)
    step(new_checker(Broken(store, "put_bytes", after=False)))
    assert [one.key for one in store.list("")] == [layout.upload(entry.id)]


@pytest.mark.parametrize("error", [OSError("killed"), OperationalError("SELECT secrets", {}, Exception("away"))])
def test_bytes_whose_record_failed_are_recorded_by_the_next_try(
    datasets, new_checker, step, arrive, small_zip, monkeypatch, error
):
    entry, accepted = arrive(small_zip), datasets.accepted
    monkeypatch.setattr(datasets, "accepted", lambda *_, **__: (_ for _ in ()).throw(error))
    step(new_checker())
    waiting = datasets.entry(entry.id, **OWNER)
    assert (waiting.state, waiting.num_tries) == ("CHECKING", 0)
    assert "SELECT" not in waiting.error.model_dump_json()  # of the records nobody is told more than that
    monkeypatch.setattr(datasets, "accepted", accepted)
    step(new_checker())
    assert datasets.get(entry.id, **OWNER)


def test_what_waits_for_the_store_keeps_nothing_else(datasets, store, new_checker, step, arrive, small_zip):
    first, second = arrive(small_zip), arrive(b"no zip", owner="bob")
    step(new_checker(Broken(store, "complete_upload", after=False)))
    assert datasets.entry(first.id, **OWNER).state == "CHECKING"
    assert datasets.entry(second.id, owner="bob").state == "REJECTED"


def test_what_has_to_wait_is_put_off_longer_each_time_and_told_once(
    datasets, new_checker, step, copied, monkeypatch, caplog
):
    def away(*_):
        raise StoreError("no such bucket")

    monkeypatch.setattr(Sources, "read", away)
    checker = new_checker()
    for number in (1, 2, 3):
        step(checker)
        entry = datasets.entry(copied.id, **OWNER)
        assert (entry.state, entry.num_tries, entry.num_waits) == ("CHECKING", 0, number)
        assert entry.error.title == "No such bucket"
        assert checker.due() == ()
    assert len([one for one in caplog.records if one.levelno == logging.WARNING]) == 1


def test_a_pause_is_twice_the_one_before_up_to_five_minutes():
    assert [pause_after(number) for number in range(8)] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert pause_after(1_000_000) == 300


def test_what_would_fill_the_disk_waits_until_there_is_room(datasets, store, new_checker, step, arrive, small_zip):
    entry, remote = arrive(small_zip), Remote(store)
    for _ in range(NUM_TRIES + 1):
        step(new_checker(remote, reserve_bytes=MORE_THAN_ANY_DISK))
    waiting = datasets.entry(entry.id, **OWNER)
    assert (waiting.state, waiting.error.code, waiting.num_tries) == ("CHECKING", "disk_full", 0)
    step(new_checker(remote))
    assert datasets.entry(entry.id, **OWNER).error is None
    assert datasets.get(entry.id, **OWNER)


def test_a_store_on_a_disk_without_room_gets_no_second_copy_of_what_arrived(
    datasets, store, new_checker, step, arrive, small_zip, tmp_path
):
    entry = arrive(small_zip)
    full = Disk(folder=tmp_path, reserve_bytes=MORE_THAN_ANY_DISK)
    step(new_checker(store_disk=full))
    assert datasets.entry(entry.id, **OWNER).error.code == "disk_full"
    assert list(store.list("")) == []
    # Once it is whole, nothing more has to be written.
    store.complete_upload(layout.upload(entry.id), entry.arrival.upload_id, num_bytes=len(small_zip))
    step(new_checker(store_disk=full, reserve_bytes=MORE_THAN_ANY_DISK))
    assert datasets.get(entry.id, **OWNER)


def test_a_disk_that_becomes_full_meanwhile_is_no_fault_of_the_dataset(
    datasets, new_checker, step, copied, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")
        yield b""

    monkeypatch.setattr(Sources, "read", full)
    for _ in range(NUM_TRIES + 1):
        step(new_checker())
    entry = datasets.entry(copied.id, **OWNER)
    assert (entry.state, entry.num_tries) == ("CHECKING", 0)
    assert "No space left" in entry.error.detail


def test_what_is_deleted_while_it_is_checked_leaves_nothing(
    database, datasets, store, new_checker, step, arrive, small_zip, monkeypatch
):
    from service.records.dataset_states import move

    entry, accepted = arrive(small_zip), datasets.accepted

    def too_late(seen, **found):
        with database.transaction() as session:
            assert move(session, entry.id, **OWNER, seen="CHECKING", to="DELETING")
        return accepted(seen, **found)

    monkeypatch.setattr(datasets, "accepted", too_late)
    step(new_checker())
    assert list(store.list("")) == []


def test_an_upload_that_is_not_completed_in_time_is_refused_and_forgotten(
    datasets, store, new_checker, step, arrive, small_zip
):
    entry = arrive(small_zip, complete=False)
    step(new_checker())
    assert datasets.entry(entry.id, **OWNER).state == "UPLOADING"
    step(new_checker(expires_s=-1))
    entry = datasets.entry(entry.id, **OWNER)
    assert (entry.state, entry.error.code) == ("REJECTED", "upload_expired")
    with pytest.raises(StoreError, match="no such upload"):
        store.parts(layout.upload(entry.id), entry.arrival.upload_id)


def test_an_upload_whose_parts_are_gone_is_refused(datasets, store, new_checker, step, arrive, small_zip):
    entry = arrive(small_zip)
    store.abort_upload(layout.upload(entry.id), entry.arrival.upload_id)
    step(new_checker())
    assert "gone" in datasets.entry(entry.id, **OWNER).error.title


def test_a_source_that_cannot_be_read_again_and_again_is_given_up_at_last(
    datasets, new_checker, step, copied, monkeypatch
):
    def away(*_, **__):
        raise StoreError("no such bucket")

    monkeypatch.setattr("service.datasets.sources.open_store", away)
    step(new_checker(sources=ANY_SOURCE, expires_s=0))  # it may have waited for something else until now
    assert datasets.entry(copied.id, **OWNER).state == "CHECKING"
    step(new_checker(sources=ANY_SOURCE))
    assert datasets.entry(copied.id, **OWNER).state == "CHECKING"
    step(new_checker(sources=ANY_SOURCE, expires_s=0))
    entry = datasets.entry(copied.id, **OWNER)
    assert (entry.state, entry.error.title) == ("REJECTED", "No such bucket")


def test_a_store_of_ours_that_fails_gives_up_no_source(datasets, store, new_checker, step, small_zip, monkeypatch):
    monkeypatch.setattr(Sources, "read", lambda *_: iter([small_zip]))
    copied = datasets.expect(
        new_dataset_id(), name="x", num_bytes=len(small_zip), arrival=Arrival(), source="s3://bucket/x.zip", **OWNER
    )
    for _ in range(NUM_TRIES):
        step(new_checker(store=Broken(store, "put_file", after=False), expires_s=0))
    assert datasets.entry(copied.id, **OWNER).state == "CHECKING"
    step(new_checker(expires_s=0))
    assert datasets.get(copied.id, **OWNER)


def test_records_that_fail_count_against_no_dataset(datasets, new_checker, arrive, small_zip, monkeypatch):
    def away(*_, **__):
        raise OperationalError("UPDATE", {}, Exception("the database is away"))

    entry, checker = arrive(small_zip), new_checker()
    for _ in range(NUM_TRIES):
        with monkeypatch.context() as patch:
            patch.setattr(datasets, "accepted", away)
            patch.setattr(CheckRecords, "put_off", away)
            (due,) = checker.due()
            with pytest.raises(OperationalError):
                checker.settle(due)
    (due,) = checker.due()
    assert due.num_tries == 0
    checker.settle(due)
    assert datasets.get(entry.id, **OWNER)


def test_a_last_try_that_goes_on_is_refused_by_no_other_service(
    datasets, new_checker, step, arrive, small_zip, check_ends, monkeypatch
):
    check_ends(CheckFailedError("the check failed"))
    entry = arrive(small_zip)
    for _ in range(NUM_TRIES - 1):
        step(new_checker())
    seen = datasets.entry(entry.id, **OWNER)
    held = []
    monkeypatch.setattr(CheckRecords, "begin", lambda *_, pause_s: held.append(pause_s))
    new_checker().settle(seen)
    assert held == [limits_for(len(small_zip), max_bytes=1 << 30).timeout_s]


def test_what_has_arrived_stays_while_a_backup_relies_on_it(
    database, datasets, store, new_checker, step, arrive, small_zip
):
    entry = arrive(small_zip)
    place = layout.upload(entry.id)
    checker = new_checker()
    with holding(new_lease(database, holder="backup")):
        step(checker)
        assert datasets.get(entry.id, **OWNER)
        step(checker)
        assert store.size(place) == len(small_zip)
    step(checker)
    assert store.size(place) is None


@pytest.mark.parametrize("error", [CheckKilledError("the check was killed"), CheckFailedError("the check failed")])
def test_a_check_without_a_verdict_is_given_up_by_whichever_service_tries_it_last(
    datasets, new_checker, step, arrive, small_zip, check_ends, error
):
    check_ends(error)
    entry = arrive(small_zip)
    for number in range(1, NUM_TRIES):
        step(new_checker())
        assert datasets.entry(entry.id, **OWNER).num_tries == number
    step(new_checker())
    entry = datasets.entry(entry.id, **OWNER)
    assert (entry.state, entry.error.code) == ("REJECTED", error.code)


def test_a_dataset_that_ends_the_service_each_time_is_given_up(
    datasets, store, new_checker, step, arrive, small_zip, check_ends
):
    class Killed(BaseException):
        """The end of the process, as far as a test can have it."""

    check_ends(Killed())
    entry = arrive(small_zip)
    for _ in range(NUM_TRIES):
        checker = new_checker()
        with pytest.raises(Killed):
            step(checker)
        assert checker.due() == ()  # others come first
    step(new_checker())
    entry = datasets.entry(entry.id, **OWNER)
    assert (entry.state, entry.error.code) == ("REJECTED", "check_killed")
    assert "begun 3 times" in entry.error.title
    assert list(store.list("")) == []


def test_a_service_that_ends_gives_nothing_up(datasets, new_checker, arrive, small_zip, monkeypatch):
    def killed(*_):
        checker.stop()
        raise CheckKilledError("the check of the archive was killed", got="SIGKILL")

    monkeypatch.setattr("service.datasets.checker.run_check", killed)
    entry = arrive(small_zip)
    for _ in range(NUM_TRIES + 1):
        checker = new_checker()
        assert checker.due() == (entry,)  # as it was, and at once
        checker.settle(entry)


def test_of_two_services_that_have_seen_the_same_one_tries_it(datasets, new_checker, arrive, small_zip, check_ends):
    check_ends(CheckFailedError("the check failed"))
    entry = arrive(small_zip)
    for _ in range(2):
        new_checker().settle(entry)
    assert datasets.entry(entry.id, **OWNER).num_tries == 1


def test_a_larger_archive_may_ask_for_more():
    usual = ArchiveLimits()
    small, large = (limits_for(size, max_bytes=50 << 30) for size in (1 << 20, 20 << 30))
    assert (small.timeout_s, small.max_entries) == (usual.timeout_s, usual.max_entries)
    assert (large.timeout_s, large.max_entries) == (10 * usual.timeout_s, 10 * usual.max_entries)
    assert large.max_unpacked_bytes == 10 * usual.max_unpacked_bytes
    assert large.max_archive_bytes == 50 << 30
    assert large.max_file_bytes == usual.max_file_bytes
