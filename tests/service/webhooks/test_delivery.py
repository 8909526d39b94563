"""The loop that sends, with a fake sender."""

import asyncio
import json
import threading

import pytest
from anyio import to_thread
from sqlalchemy import select, update

from service.metrics import DeliveryMetrics
from service.records.clock import DatabaseNow
from service.records.deliveries import UNREADABLE, DeliveryRecords
from service.records.events import record_event
from service.records.lease import WEBHOOKS, Lease
from service.records.tables import DeliveryRow, EventRow, WebhookRow
from service.records.webhooks import WebhookRecords
from service.webhooks.delays import DELAYS_S, MAX_TRIES
from service.webhooks.delivery import DeliveryLoop
from service.webhooks.places import MAX_AT_ONCE, MAX_OF_HOST, MAX_OF_OWNER
from service.webhooks.sender import Outcome

WAIT_S = 20.0
TAKEN = Outcome(status=204)
REFUSED = Outcome(status=500, error="a refusal: status 500")


class FakeSender:
    """Answers as it is told, by URL; what is in `held` waits until it is released."""

    def __init__(self):
        self.sent, self.outcomes, self.held = [], {}, {}
        self.came = threading.Condition()

    async def send(self, url, secret, message):
        with self.came:
            self.sent.append((url, message))
            self.came.notify_all()
        if url in self.held:
            await to_thread.run_sync(self.held[url].wait, WAIT_S, abandon_on_cancel=True)
        return self.outcomes.get(url, TAKEN)

    def wait(self, number, url=None):
        with self.came:
            found = self.came.wait_for(lambda: len(self.to(url)) >= number, WAIT_S)
            assert found, self.sent

    def to(self, url):
        return [message for sent, message in self.sent if url in {None, sent}]


@pytest.fixture
def sender():
    return FakeSender()


@pytest.fixture
def deliveries(database):
    return DeliveryRecords(database, max_tries=MAX_TRIES)


@pytest.fixture
def metrics():
    return DeliveryMetrics()


@pytest.fixture
def loop_of(database, deliveries, sender, metrics):
    """Returns a function that makes a loop, which is ended at last."""
    made = []

    def make(holder="a", **options):
        lease = Lease(database, name=WEBHOOKS, holder=holder, ttl_s=30.0)
        made.append(DeliveryLoop(deliveries, lease, sender, metrics, **{"interval_s": 0.01, **options}))
        return made[-1]

    yield make
    for url in sender.held.values():
        url.set()
    for loop in made:
        if loop.alive:
            loop.stop()


@pytest.fixture
def add(database):
    def make(url="https://a.test", owner="ann", kinds=None):
        return WebhookRecords(database).add(url, secret="whsec_c2VjcmV0", kinds=kinds, owner=owner)

    return make


@pytest.fixture
def tell(database):
    def record(work_id="ad-1", owner="ann"):
        with database.transaction() as session:
            record_event(session, work_id=work_id, owner=owner, kind="adaptation.queued", data={"attempt": 1})

    return record


@pytest.fixture
def settled(database):
    """Returns a function that waits until a condition holds of all deliveries."""

    def wait(condition):
        tick = threading.Event()
        for _ in range(2000):
            with database.transaction() as session:
                rows = session.scalars(select(DeliveryRow).order_by(DeliveryRow.created_at)).all()
            if condition(rows):
                return rows
            tick.wait(0.01)
        pytest.fail(f"never: {[(row.num_tries, row.last_error) for row in rows]}")

    return wait


def deliver(loop, delivery, **options):
    return asyncio.run(loop.deliver(delivery, **options))


def claim(deliveries):
    due = deliveries.next_due(but_webhooks=frozenset(), but_owners=frozenset())
    return None if due is None else deliveries.claim(due.delivery_id)


def outcomes(metrics):
    (family,) = metrics.registry.collect()
    return {one.labels["outcome"]: one.value for one in family.samples if one.name.endswith("_total") and one.value}


def test_what_happened_is_sent_once(loop_of, sender, metrics, add, tell, settled):
    loop_of().start()
    add()
    tell()
    (row,) = settled(lambda rows: rows and rows[0].delivered_at is not None)
    assert (row.next_at, row.num_tries, row.last_status) == (None, 1, 204)
    ((url, message),) = sender.sent
    assert (url, message.id) == ("https://a.test", row.id)
    document = json.loads(message.body)
    data = document["data"]
    assert (document["type"], document["timestamp"]) == ("adaptation.queued", data["at"])
    assert (data["work_id"], data["sequence"], data["data"]) == ("ad-1", 1, {"attempt": 1})
    assert data["links"] == {"self": "/v1/adaptations/ad-1"}
    assert outcomes(metrics) == {"delivered": 1}


def test_what_is_not_taken_is_sent_again_later_and_then_given_up(
    loop_of, deliveries, sender, metrics, add, tell, database
):
    loop = loop_of(vary=lambda: 1.0)
    webhook = add()
    sender.outcomes["https://a.test"] = REFUSED
    tell()
    delays = []
    for _ in range(MAX_TRIES):
        view = deliver(loop, claim(deliveries))
        with database.transaction() as session:
            now = session.scalar(select(DatabaseNow()))
            delays.append(None if view.next_at is None else view.next_at.timestamp() - now)
            session.execute(update(DeliveryRow).where(DeliveryRow.next_at.is_not(None)).values(next_at=0.0))
    assert delays[-1] is None
    assert [pytest.approx(delay, abs=5.0) for delay in delays[:-1]] == list(DELAYS_S)
    assert claim(deliveries) is None
    assert len({message.id for _, message in sender.sent}) == 1
    assert len({message.body for _, message in sender.sent}) == 1
    (view,), _ = deliveries.page(webhook.id, limit=2)
    assert (view.num_tries, view.last_status, view.last_error, view.delivered_at) == (8, 500, REFUSED.error, None)
    assert outcomes(metrics) == {"failed": MAX_TRIES - 1, "given_up": 1}


def test_delays_vary(loop_of, deliveries, sender, add, tell, database):
    add()
    sender.outcomes["https://a.test"] = REFUSED
    tell()
    view = deliver(loop_of(vary=lambda: 3.0), claim(deliveries))
    assert 10.0 < (view.next_at - view.created_at).total_seconds() < 60.0


def test_a_test_is_sent_once(loop_of, deliveries, sender, metrics, add):
    sender.outcomes["https://a.test"] = REFUSED
    view = deliver(loop_of(), deliveries.add_test(add()), again=False)
    assert (view.next_at, view.last_status) == (None, 500)
    assert outcomes(metrics) == {"given_up": 1}


def test_who_is_gone_gets_nothing_more(loop_of, database, deliveries, sender, metrics, add, tell):
    webhook = add()
    sender.outcomes["https://a.test"] = Outcome(status=410, error="a refusal: status 410")
    tell("ad-1")
    tell("ad-2")
    view = deliver(loop_of(), claim(deliveries))
    assert view.next_at is None
    assert not deliveries.has_due()
    assert WebhookRecords(database).get(webhook.id, owner="ann").disabled_at is not None
    assert outcomes(metrics) == {"gone": 1}


def test_a_receiver_that_asks_to_be_left_alone_is(loop_of, deliveries, sender, add, tell):
    add()
    sender.outcomes["https://a.test"] = Outcome(status=429, error="a refusal: status 429", asked_s=600.0)
    tell("ad-1")
    tell("ad-2")
    view = deliver(loop_of(vary=lambda: 1.0), claim(deliveries))
    assert 590.0 < (view.next_at - view.created_at).total_seconds() < 700.0
    assert not deliveries.has_due()


@pytest.fixture
def hang(sender, add, tell):
    """Returns a function that gives an owner receivers that hang, each with messages that wait for it."""

    def add_hanging(owner, urls):
        for url in urls:
            sender.held[url] = threading.Event()
            add(url, owner)
        for number in range(3):
            tell(f"ad-{owner}-{number}", owner)
        return urls

    return add_hanging


def busy(sender, urls):
    """Those of these receivers that are being sent to: one message each."""
    found = [url for url in urls if sender.to(url)]
    assert all(len(sender.to(url)) == 1 for url in found)
    return found


def test_receivers_that_hang_hold_up_nobody_elses(loop_of, sender, add, tell, hang, settled):
    owners = [f"slow-{number}" for number in range(MAX_AT_ONCE // MAX_OF_OWNER - 1)]
    urls = {owner: hang(owner, [f"https://{owner}-{number}.test" for number in range(5)]) for owner in owners}
    add("https://b.test", "bob")
    for number in range(3):
        tell(f"ad-bob-{number}", "bob")
    loop_of().start()
    sender.wait(3, "https://b.test")
    assert {len(busy(sender, urls[owner])) for owner in owners} == {MAX_OF_OWNER}
    for event in sender.held.values():
        event.set()
    settled(lambda rows: all(row.delivered_at is not None for row in rows))


def test_a_host_that_hangs_holds_up_no_other_whoever_owns_its_webhooks(loop_of, sender, add, tell, hang, settled):
    urls = [f"https://slow.test/{number}" for number in range(MAX_AT_ONCE)]
    for number, url in enumerate(urls):
        hang(f"owner-{number}", [url])
    add("https://b.test", "bob")
    tell("ad-b", "bob")
    loop_of().start()
    sender.wait(1, "https://b.test")
    assert len(busy(sender, urls)) == MAX_OF_HOST
    for event in sender.held.values():
        event.set()
    settled(lambda rows: all(row.delivered_at is not None for row in rows))


def test_of_two_services_one_sends(loop_of, database, sender, add, tell, settled):
    other = Lease(database, name=WEBHOOKS, holder="b", ttl_s=30.0)
    assert other.acquire()
    loop = loop_of()
    loop.start()
    add()
    tell()
    with sender.came:
        assert not sender.came.wait(0.1)
    other.release()
    settled(lambda rows: rows[0].delivered_at is not None)


def test_what_was_sent_but_not_recorded_is_sent_again_with_the_same_id(
    loop_of, deliveries, sender, add, tell, database, settled
):
    add()
    tell()
    sent = claim(deliveries)
    asyncio.run(sender.send("https://a.test", "", type("Message", (), {"id": sent.id, "body": b""})))
    with database.transaction() as session:  # the process dies here, and time goes by
        session.execute(update(DeliveryRow).values(next_at=0.0))
    loop_of().start()
    settled(lambda rows: rows[0].delivered_at is not None)
    assert [message.id for _, message in sender.sent] == [sent.id, sent.id]


def test_a_loop_that_is_stopped_leaves_what_it_was_sending(loop_of, sender, add, tell, settled):
    sender.held["https://a.test"] = threading.Event()
    loop = loop_of()
    loop.start()
    add()
    tell()
    sender.wait(1)
    loop.stop()
    assert not loop.alive
    (row,) = settled(lambda rows: True)
    assert (row.delivered_at, row.num_tries) == (None, 1)
    assert row.next_at is not None


def test_what_a_newer_version_has_recorded_is_sent_and_what_cannot_be_read_is_given_up(
    loop_of, database, sender, add, tell, settled
):
    newer = add()
    tell("ad-1")
    tell("ad-2")
    with database.transaction() as session:
        session.execute(update(WebhookRow).where(WebhookRow.id == newer.id).values(kinds=["adaptation.paused"]))
        session.execute(update(EventRow).where(EventRow.work_id == "ad-1").values(data=["no mapping"]))
    loop = loop_of()
    loop.start()
    damaged, sent = settled(lambda rows: rows[0].next_at is None and rows[1].delivered_at is not None)
    assert (damaged.delivered_at, damaged.last_error, sent.work_id) == (None, UNREADABLE, "ad-2")
    assert loop.alive
    assert WebhookRecords(database).get(newer.id, owner="ann").kinds == ("adaptation.paused",)


def test_records_that_are_away_are_waited_for(loop_of, deliveries, sender, add, tell, settled, monkeypatch, caplog):
    from sqlalchemy.exc import OperationalError

    from service.webhooks import delivery

    monkeypatch.setattr(delivery, "PAUSE_AFTER_ERROR_S", 0.01)
    ask, failures = deliveries.has_due, iter([True, True])

    def failing():
        if next(failures, False):
            raise OperationalError("SELECT", {}, Exception("gone"))
        return ask()

    monkeypatch.setattr(deliveries, "has_due", failing)
    add()
    tell()
    loop_of().start()
    settled(lambda rows: rows[0].delivered_at is not None)
    assert sum("have to wait" in record.message for record in caplog.records) == 1
