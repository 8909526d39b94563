"""What rounds of housekeeping leave alone, whatever happens beside them; and old rows."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from service.errors import ConflictError
from service.housekeeping import tenure
from service.housekeeping.tenure import holding, new_lease
from service.priors.catalog import PriorCatalog
from service.records.adaptations import AdaptationRecords
from service.records.audit import AuditRecords, Deed
from service.records.datasets import DatasetRecords
from service.records.events import EventRecords
from service.records.idempotency import Once, claim
from service.records.meta_runs import MetaRunRecords
from service.records.owners import add_owner
from service.records.tables import AuditRow, DeliveryRow, EventRow, IdempotencyRow, MetaRunRow, WebhookRow
from service.records.transitions import Change, MetaChange
from workers.contracts.datasets import DatasetReport
from workers.contracts.errors import StoreError
from workers.contracts.meta_runs import DatasetChoice, MetaRunRequest
from workers.store import layout

REPORT = DatasetReport(
    classes=("cat", "dog"), num_images=(6, 6), median_size=12, min_size=12, max_size=12, modes={"L": 12}
)
DAY_S = 86_400.0
SHA256 = "a" * 64
both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


def keys(store):
    return {one.key for one in store.list("")}


def test_bytes_that_are_recorded_between_the_two_looks_stay(housekeeper, database, store, make_old, monkeypatch):
    store.put_bytes(layout.dataset_archive(SHA256), b"bytes")
    make_old(store)
    named = housekeeper.records.named

    def named_before(hashes):
        found = named(hashes)
        DatasetRecords(database).add(name="pets", sha256=SHA256, num_bytes=5, report=REPORT, owner="local")
        return found

    monkeypatch.setattr(type(housekeeper.records), "named", lambda _, hashes: named_before(hashes))
    assert housekeeper.gc(apply=True).num_items == 0
    assert keys(store) == {layout.dataset_archive(SHA256)}


def test_a_prior_goes_with_the_next_sweep_and_what_the_store_keeps_with_a_later_one(
    housekeeper, database, store, own_card, tensors, monkeypatch
):
    catalog = PriorCatalog(housekeeper.priors, store)
    assert catalog.add(own_card, tensors, owner="local")
    catalog.delete(own_card.id, owner="local")
    whole = type(store).delete

    def failing(self, key):
        if key.endswith("prior.safetensors"):
            raise StoreError("the store does not answer", got=key)
        return whole(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "delete", failing)
        with pytest.raises(StoreError):
            housekeeper.sweep()
    assert keys(store) == {"priors/own-v1/prior.safetensors"}, "the card goes first"
    housekeeper.sweep()
    assert keys(store) == set()


def test_a_prior_that_an_unfinished_meta_run_will_give_is_not_garbage(housekeeper, database, store, make_old):
    for prior_id in ("awaited", "awaited-s40", "forgotten"):
        store.put_bytes(f"priors/{prior_id}/card.json", b"{}")
    make_old(store)
    record_meta_run(database, prior_id="awaited")
    housekeeper.gc(apply=True)
    assert keys(store) == {"priors/awaited/card.json", "priors/awaited-s40/card.json"}


def record_meta_run(database, *, prior_id):
    request = MetaRunRequest(datasets=(DatasetChoice(dataset_id="ds-1"),), prior_id=prior_id)
    return MetaRunRecords(database).add(request, (), owner="local")


@both
def test_a_meta_run_goes_on_before_its_checkpoints_are_removed_or_after_and_never_between(
    housekeeper, database, store, aged, monkeypatch
):
    meta_runs, told = MetaRunRecords(database), []
    meta_run = record_meta_run(database, prior_id="p")
    assert meta_runs.change(meta_run, MetaChange(state="STOPPED"))
    aged(MetaRunRow, 31, "finished_at")
    prefix = layout.checkpoints(meta_run.id)
    for name in ("1/manifest.json", "1/checkpoint.pt", "2/checkpoint.pt"):
        store.put_bytes(f"{prefix}/{name}", b"1")
    whole = type(store).delete

    def resume():
        meta_runs.request_resume(meta_run.id, owner="local")
        told.append("resumed")

    def delete(self, key):
        whole(self, key)
        told.append("removed")
        if len(told) == 1:
            wait([pool.submit(resume)], timeout=1.0)  # as long as it takes if nothing holds it

    monkeypatch.setattr(type(store), "delete", delete)
    with ThreadPoolExecutor(1) as pool:
        housekeeper.gc(apply=True)
    assert told == ["removed"] * 3 + ["resumed"]
    assert meta_runs.get(meta_run.id, owner="local").state == "QUEUED"
    store.put_bytes(f"{prefix}/3/manifest.json", b"1")
    assert housekeeper.gc(apply=True).num_items == 0, "it goes on"


@pytest.mark.parametrize("reason", ["lost", "ends"])
def test_who_loses_the_lease_or_ends_within_a_thing_removes_no_more_of_it(
    housekeeper, store, make_old, monkeypatch, reason
):
    for number in range(3):
        store.put_bytes(f"priors/forgotten/{number}", b"1")
    make_old(store)
    whole = type(store).delete

    def delete(self, key):
        whole(self, key)
        if reason == "ends":
            housekeeper.stop()
        else:
            monkeypatch.setattr(tenure, "TTL_S", 0.0)

    monkeypatch.setattr(type(store), "delete", delete)
    with pytest.raises(ConflictError, match=reason):
        housekeeper.gc(apply=True)
    assert keys(store) == {"priors/forgotten/1", "priors/forgotten/2"}


def test_what_lies_there_under_no_key_ends_no_round(housekeeper, store, make_old, caplog):
    for room in ("adaptations", "datasets", "meta-runs", "priors", "uploads"):
        store.put_bytes(f"{room}/forgotten/object", b"1")
        make_old(store)
        (store.local_path(f"{room}/forgotten/object").parent / "back\\slash").touch()
    assert housekeeper.gc(apply=True).num_items == 5
    assert keys(store) == set()
    for room in ("adaptations", "datasets", "meta-runs", "priors", "uploads"):
        assert f"{room}/forgotten/back\\\\slash" in caplog.text


@pytest.fixture
def aged(database):
    """Returns a function that has all rows of a table be older by so many days."""

    def age(row, days, column="created_at", where=None):
        moved = update(row).values({column: getattr(row, column) - days * DAY_S})
        with database.transaction() as session:
            session.execute(moved if where is None else moved.where(where))

    return age


def count(database, row):
    with database.transaction() as session:
        return session.scalar(select(func.count()).select_from(row))


@both
def test_old_rows_go_and_the_last_event_of_each_work_stays(housekeeper, database, add_adaptation, aged):
    adaptations = AdaptationRecords(database)
    ended, waiting = add_adaptation(), add_adaptation()
    assert adaptations.change(ended, Change(state="CANCELLED"))
    AuditRecords(database).add(
        Deed(owner="local", key_id=None, request_id="r", action="create_dataset", path="/v1/datasets", status=201)
    )
    with database.transaction() as session:
        add_owner(session, "local")
        claim(session, Once(key="k", fingerprint="f"), owner="local", work_id=ended.id)
    assert housekeeper.gc(apply=True).num_items == 0
    aged(EventRow, 31)
    aged(AuditRow, 31, "at")
    aged(IdempotencyRow, 2)
    planned = housekeeper.gc(apply=False)
    assert [item.what for item in planned.items] == [
        "1 rows of idempotency_keys",
        "1 rows of events",
        "1 rows of audit",
    ]
    assert housekeeper.gc(apply=True).items == planned.items
    events = EventRecords(database)
    assert [one.sequence for one in events.page(ended.id, after=0, limit=10)] == [2]
    assert [one.sequence for one in events.page(waiting.id, after=0, limit=10)] == [1]
    assert count(database, AuditRow) == count(database, IdempotencyRow) == 0


@both
def test_an_event_waits_until_it_was_sent_and_a_deleted_webhook_until_nothing_names_it(
    housekeeper, database, add_adaptation, aged
):
    with database.transaction() as session:
        session.add(
            WebhookRow(id="wh-1", owner="local", url="https://a.test", secret="s", created_at=0.0, deleted_at=0.0)
        )
    adaptation = add_adaptation()
    with database.transaction() as session:
        sent = {"webhook_id": "wh-1", "work_id": adaptation.id, "created_at": 0.0}
        session.add(DeliveryRow(id="wd-1", sequence=1, next_at=1.0, **sent))
    AdaptationRecords(database).change(adaptation, Change(state="CANCELLED"))
    aged(EventRow, 31)
    assert housekeeper.gc(apply=True).num_items == 0
    with database.transaction() as session:
        session.execute(update(DeliveryRow).values(next_at=None, delivered_at=2.0))
    removed = [item.what for item in housekeeper.gc(apply=True).items]
    assert removed == ["1 rows of deliveries", "1 rows of events", "1 rows of webhooks"]


@both
def test_rows_go_in_small_transactions(housekeeper, database, monkeypatch):
    monkeypatch.setattr("service.records.housekeeping.NUM_ROWS", 3)
    with database.transaction() as session:
        old = {"owner": "local", "request_id": "r", "action": "a", "path": "/", "status": 200}
        session.add_all([AuditRow(at=float(number), **old) for number in range(8)])
    batches = [number for table, number in housekeeper.records.remove_old(30 * DAY_S) if table == "audit"]
    assert batches == [3, 3, 2]


class FakeLease:
    """Ours at first, and then as it is told."""

    def __init__(self, later) -> None:
        self.later, self.asked, self.released = later, threading.Event(), False
        self._answers = iter((lambda: True,))

    def acquire(self) -> bool:
        first = next(self._answers, None)
        if first is not None:
            return first()
        self.asked.set()
        return self.later()

    def release(self) -> None:
        self.released = True


def no_database():
    raise OperationalError("UPDATE leases", {}, OSError("no route to host"))


@pytest.mark.parametrize(("later", "ttl_s"), [(lambda: False, 60.0), (no_database, 0.0)])
def test_who_loses_the_lease_or_cannot_renew_it_in_time_stops(monkeypatch, later, ttl_s):
    monkeypatch.setattr(tenure, "RENEWED_EVERY_S", 0.001)
    lease = FakeLease(later)
    with holding(lease) as held:
        assert lease.asked.wait(10)
        held.end()
        monkeypatch.setattr(tenure, "TTL_S", ttl_s)
        with pytest.raises(ConflictError, match="lost"):
            held.check()
    assert lease.released


@both
def test_one_holds_it_at_a_time(database):
    first, second = new_lease(database, holder="a"), new_lease(database, holder="b")
    with holding(first), pytest.raises(ConflictError, match="under way"), holding(second):
        pass
    with holding(new_lease(database, holder="b")) as held:
        held.check()
