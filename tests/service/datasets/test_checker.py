import hashlib
import threading

import pytest

from service.datasets.checker import NUM_TRIES, Checker, limits_for
from service.datasets.contents import Contents
from service.datasets.sources import Sources
from service.records.datasets import DatasetRecords, new_dataset_id
from service.records.model import Arrival
from workers.contracts.errors import StoreError
from workers.store import layout
from workers.tasks.archive import check_archive
from workers.tasks.check_process import CheckKilledError, Checks
from workers.tasks.limits import ArchiveLimits

OWNER = {"owner": "ann"}


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
def new_checker(datasets, store, tmp_path):
    def make(store=store, expires_s=60):
        return Checker(
            datasets=datasets,
            store=store,
            contents=Contents(datasets=datasets, store=store),
            sources=Sources(prefixes=()),
            checks=Checks(),
            folder=tmp_path,
            max_bytes=1 << 30,
            expires_s=expires_s,
        )

    return make


@pytest.fixture
def arrive(datasets, store):
    """Returns a function that has a dataset arrive whole, or but for its last part."""

    def one(data, *, complete=True):
        dataset_id = new_dataset_id()
        key = layout.upload(dataset_id)
        upload = store.begin_upload(key, num_bytes=len(data))
        arrival = Arrival(upload_id=upload.id, part_bytes=upload.part_bytes)
        entry = datasets.expect(dataset_id, name="pets", num_bytes=len(data), arrival=arrival, **OWNER)
        if complete:
            store.put_part(key, upload.id, 1, data)
            datasets.completed(entry)
        return datasets.entry(dataset_id, **OWNER)

    return one


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


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", ["complete_upload", "local_path", "put_file", "put_bytes", "delete"])
def test_a_step_that_is_broken_off_anywhere_is_done_again(
    datasets, store, new_checker, arrive, small_zip, method, after
):
    entry = arrive(small_zip)
    broken = Broken(store, method, after=after)
    checker = new_checker(broken)
    with pytest.raises(StoreError):
        checker.step()
    assert broken.failed
    checker.step()
    dataset = datasets.get(entry.id, **OWNER)
    assert dataset.sha256 == hashlib.sha256(small_zip).hexdigest()
    assert store.get_bytes(layout.dataset_archive(dataset.sha256)) == small_zip


def test_bytes_whose_record_failed_are_recorded_by_the_next_step(
    datasets, store, new_checker, arrive, small_zip, monkeypatch
):
    entry, accepted = arrive(small_zip), datasets.accepted
    monkeypatch.setattr(datasets, "accepted", lambda *_, **__: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        new_checker().step()
    monkeypatch.setattr(datasets, "accepted", accepted)
    new_checker().step()
    assert datasets.get(entry.id, **OWNER)


def test_what_waits_for_the_store_keeps_nothing_else(datasets, store, new_checker, arrive, small_zip):
    first, second = arrive(small_zip), arrive(b"no zip")
    with pytest.raises(StoreError):
        new_checker(Broken(store, "complete_upload", after=False)).step()
    assert datasets.entry(first.id, **OWNER).state == "CHECKING"
    assert datasets.entry(second.id, **OWNER).state == "REJECTED"


def test_what_is_deleted_while_it_is_checked_leaves_nothing(
    database, datasets, store, new_checker, arrive, small_zip, monkeypatch
):
    from service.records.dataset_states import move

    entry, accepted = arrive(small_zip), datasets.accepted

    def too_late(seen, **found):
        with database.transaction() as session:
            assert move(session, entry.id, **OWNER, seen="CHECKING", to="DELETING")
        return accepted(seen, **found)

    monkeypatch.setattr(datasets, "accepted", too_late)
    new_checker().step()
    assert list(store.list("")) == []


def test_an_upload_that_is_not_completed_in_time_is_refused_and_forgotten(
    datasets, store, new_checker, arrive, small_zip
):
    entry = arrive(small_zip, complete=False)
    new_checker().step()
    assert datasets.entry(entry.id, **OWNER).state == "UPLOADING"
    new_checker(expires_s=-1).step()
    entry = datasets.entry(entry.id, **OWNER)
    assert (entry.state, entry.error.code) == ("REJECTED", "upload_expired")
    with pytest.raises(StoreError, match="no such upload"):
        store.parts(layout.upload(entry.id), entry.arrival.upload_id)


def test_an_upload_whose_parts_are_gone_is_refused(datasets, store, new_checker, arrive, small_zip):
    entry = arrive(small_zip)
    store.abort_upload(layout.upload(entry.id), entry.arrival.upload_id)
    new_checker().step()
    assert "gone" in datasets.entry(entry.id, **OWNER).error.title


def test_a_source_that_cannot_be_read_is_given_up_at_last(datasets, new_checker, monkeypatch):
    def away(*_):
        raise StoreError("no such bucket")

    monkeypatch.setattr(Sources, "read", away)
    entry = datasets.expect(
        new_dataset_id(), name="x", num_bytes=9, arrival=Arrival(), source="s3://bucket/x.zip", **OWNER
    )
    with pytest.raises(StoreError):
        new_checker().step()
    assert datasets.entry(entry.id, **OWNER).state == "CHECKING"
    new_checker(expires_s=0).step()
    assert datasets.entry(entry.id, **OWNER).error.title == "No such bucket"


def test_a_check_that_keeps_being_killed_is_given_up(datasets, new_checker, arrive, small_zip, monkeypatch):
    def killed(*_):
        raise CheckKilledError("the check of the archive was killed", got="SIGKILL")

    monkeypatch.setattr("service.datasets.checker.run_check", killed)
    entry, checker = arrive(small_zip), new_checker()
    for _ in range(NUM_TRIES - 1):
        with pytest.raises(CheckKilledError):
            checker.step()
    checker.step()
    assert datasets.entry(entry.id, **OWNER).error.code == "check_killed"


def test_a_service_that_ends_gives_nothing_up(datasets, new_checker, arrive, small_zip, monkeypatch):
    checker = new_checker()

    def killed(*_):
        checker.stop()
        raise CheckKilledError("the check of the archive was killed", got="SIGKILL")

    monkeypatch.setattr("service.datasets.checker.run_check", killed)
    entry = arrive(small_zip)
    for _ in range(NUM_TRIES + 1):
        with pytest.raises(CheckKilledError):
            checker._settle(entry)
    assert datasets.entry(entry.id, **OWNER).state == "CHECKING"


def test_a_larger_archive_may_ask_for_more():
    usual = ArchiveLimits()
    small, large = (limits_for(size, max_bytes=50 << 30) for size in (1 << 20, 20 << 30))
    assert (small.timeout_s, small.max_entries) == (usual.timeout_s, usual.max_entries)
    assert (large.timeout_s, large.max_entries) == (10 * usual.timeout_s, 10 * usual.max_entries)
    assert large.max_unpacked_bytes == 10 * usual.max_unpacked_bytes
    assert large.max_archive_bytes == 50 << 30
    assert large.max_file_bytes == usual.max_file_bytes


def test_locks_of_other_names_do_not_wait_for_each_other(database):
    entered = threading.Event()

    def other():
        with database.exclusive("content b"):
            entered.set()

    with database.exclusive("content a"), database.exclusive("content a"):
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(20.0)
        thread.join()
