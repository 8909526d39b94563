"""Webhooks and their deliveries, in both kinds of database."""

import pytest
from sqlalchemy import select, update

from service.errors import IdempotencyKeyReusedError, NotFoundError, QuotaExceededError
from service.records.clock import DatabaseNow
from service.records.deliveries import COLLECTED, NEVER_ENDED, DeliveryRecords
from service.records.events import record_event
from service.records.idempotency import Once
from service.records.tables import DeliveryRow, EventRow
from service.records.webhooks import MAX_OF_OWNER, WebhookRecords


def due(deliveries, *, but_webhooks=frozenset(), but_owners=frozenset()):
    return deliveries.next_due(but_webhooks=but_webhooks, but_owners=but_owners)


def claim(deliveries):
    """Claim what waited longest, going past what is given up at that."""
    while (found := due(deliveries)) is not None:
        claimed = deliveries.claim(found.delivery_id)
        if claimed is not None:
            return claimed
    return None


@pytest.fixture
def webhooks(database):
    return WebhookRecords(database)


@pytest.fixture
def deliveries(database):
    return DeliveryRecords(database, max_tries=2)


@pytest.fixture
def add(webhooks):
    def make(owner="ann", **fields):
        return webhooks.add("https://lab.example", **{"secret": "s", "kinds": None, "owner": owner, **fields})

    return make


@pytest.fixture
def tell(database):
    def record(work_id, owner="ann"):
        with database.transaction() as session:
            record_event(session, work_id=work_id, owner=owner, kind="adaptation.queued")

    return record


@pytest.fixture
def turn_back(database):
    """Returns a function after which whatever is on its way is due."""

    def turn():
        with database.transaction() as session:
            values = {"next_at": DatabaseNow() - 1.0}
            session.execute(update(DeliveryRow).where(DeliveryRow.next_at.is_not(None)).values(values))

    return turn


def test_an_owner_sees_its_own_webhooks_newest_first(webhooks, add):
    first, second, _ = add(), add(kinds=("dataset.ready",)), add("bob")
    found, following = webhooks.page(owner="ann", limit=1)
    rest, _ = webhooks.page(owner="ann", limit=1, cursor=following)
    assert found + rest == (second, first)
    with pytest.raises(NotFoundError):
        webhooks.get(first.id, owner="bob")


def test_the_same_request_makes_one_webhook(webhooks, add):
    once = Once(key="k", fingerprint="f")
    first = add(secret="one", once=once)
    assert add(secret="two", once=once) == first
    with pytest.raises(IdempotencyKeyReusedError):
        add(once=Once(key="k", fingerprint="g"))
    webhooks.delete(first.id, owner="ann")
    with pytest.raises(NotFoundError):
        add(once=once)


def test_there_is_an_end_to_webhooks(webhooks, add):
    made = [add() for _ in range(MAX_OF_OWNER)]
    with pytest.raises(QuotaExceededError):
        add()
    add("bob")
    webhooks.delete(made[0].id, owner="ann")
    add()


def test_a_deleted_webhook_gets_nothing_more(database, webhooks, deliveries, add, tell):
    webhook = add()
    tell("ad-1")
    webhooks.delete(webhook.id, owner="ann")
    assert not deliveries.has_due()
    tell("ad-2")
    assert claim(deliveries) is None
    with pytest.raises(NotFoundError):
        webhooks.delete(webhook.id, owner="ann")
    with database.transaction() as session:
        assert session.scalars(select(DeliveryRow.last_error)).all() == ["the webhook was deleted"]


def test_what_waited_longest_is_claimed_once(deliveries, add, tell):
    webhook = add()
    assert not deliveries.has_due()
    tell("ad-1")
    tell("ad-2")
    assert deliveries.has_due()
    first, second = claim(deliveries), claim(deliveries)
    assert [first.event.work_id, second.event.work_id] == ["ad-1", "ad-2"]
    assert (first.webhook, first.num_tries, first.event.kind) == (webhook, 1, "adaptation.queued")
    assert claim(deliveries) is None
    assert not deliveries.has_due()


def test_who_is_busy_holds_up_no_other(deliveries, add, tell):
    slow = add("ann")
    tell("ad-1", "ann")
    add("bob")
    tell("ad-2", "bob")
    other = due(deliveries, but_webhooks={slow.id})
    assert other.webhook.owner == "bob"
    assert deliveries.claim(other.delivery_id).event.work_id == "ad-2"
    assert deliveries.claim(other.delivery_id) is None
    assert due(deliveries).webhook == slow
    assert due(deliveries, but_owners={"ann"}) is None


def test_what_its_sender_died_with_is_sent_again_with_the_same_id(deliveries, add, tell, turn_back):
    add()
    tell("ad-1")
    first = claim(deliveries)
    turn_back()  # as time does
    again = claim(deliveries)
    assert (again.id, again.num_tries) == (first.id, 2)
    turn_back()
    assert claim(deliveries) is None  # not for ever
    (given_up,), _ = deliveries.page(first.webhook.id, limit=1)
    assert (given_up.next_at, given_up.last_error) == (None, NEVER_ENDED)


def test_what_becomes_of_a_delivery_is_told(deliveries, add, tell, turn_back):
    webhook = add()
    tell("ad-1")
    claimed = claim(deliveries)
    failed = deliveries.failed(claimed.id, status=500, error="x" * 1000, again_s=60.0)
    assert 50 < (failed.next_at - failed.created_at).total_seconds() < 70
    assert (failed.last_status, len(failed.last_error), failed.delivered_at) == (500, 500, None)
    turn_back()
    claim(deliveries)
    taken = deliveries.taken(claimed.id, status=204)
    assert taken.delivered_at is not None
    assert (taken.next_at, taken.last_status, taken.last_error, taken.num_tries) == (None, 204, None, 2)
    assert deliveries.page(webhook.id, limit=5) == ((taken,), None)


def test_a_receiver_that_asks_for_rest_gets_it_from_all_that_waits_for_it(deliveries, add, tell, turn_back):
    webhook, other = add(), add("bob")
    for work_id in ("ad-1", "ad-2", "ad-3"):
        tell(work_id)
    tell("ad-4", "bob")
    taken, refused = claim(deliveries), claim(deliveries)
    deliveries.taken(taken.id, status=204)
    deliveries.failed(refused.id, status=429, error="later", again_s=7200.0, rest_s=3600.0)
    assert due(deliveries).webhook == other
    assert due(deliveries, but_owners={"bob"}) is None
    found = {one.work_id: one for one in deliveries.page(webhook.id, limit=5)[0]}
    waits_s = {name: one.next_at and (one.next_at - one.created_at).total_seconds() for name, one in found.items()}
    assert waits_s["ad-1"] is None
    assert 7190 < waits_s["ad-2"] < 7300
    assert 3590 < waits_s["ad-3"] < 3700
    turn_back()
    assert {claim(deliveries).event.work_id for _ in range(3)} == {"ad-2", "ad-3", "ad-4"}


def test_rest_shortens_no_wait(deliveries, add, tell):
    webhook = add()
    tell("ad-1")
    tell("ad-2")
    first, second = claim(deliveries), claim(deliveries)
    deliveries.failed(first.id, status=500, error="x", again_s=7200.0)
    deliveries.failed(second.id, status=429, error="x", again_s=60.0, rest_s=60.0)
    waits_s = [(one.next_at - one.created_at).total_seconds() for one in deliveries.page(webhook.id, limit=5)[0]]
    assert max(waits_s) > 7190


def test_a_webhook_that_wants_nothing_more_is_disabled(webhooks, deliveries, add, tell):
    webhook = add()
    tell("ad-1")
    tell("ad-2")
    deliveries.disable(webhook.id, "status 410")
    tell("ad-3")
    assert not deliveries.has_due()
    assert webhooks.get(webhook.id, owner="ann").disabled_at is not None
    found, _ = deliveries.page(webhook.id, limit=5)
    assert {(one.work_id, one.next_at, one.last_error) for one in found} == {
        ("ad-1", None, "status 410"),
        ("ad-2", None, "status 410"),
    }


def test_an_event_that_is_no_longer_kept_is_given_up(database, deliveries, add, tell):
    webhook = add()
    tell("ad-1")
    tell("ad-2")
    with database.transaction() as session:
        session.delete(session.get_one(EventRow, ("ad-1", 1)))
    assert claim(deliveries).event.work_id == "ad-2"
    (lost,) = [one for one in deliveries.page(webhook.id, limit=5)[0] if one.work_id == "ad-1"]
    assert (lost.next_at, lost.last_error) == (None, COLLECTED)


def test_a_test_goes_to_its_own_webhook_alone(deliveries, add):
    webhook, _ = add(), add()
    sequences = [deliveries.add_test(webhook).event.sequence for _ in range(2)]
    assert sequences == [1, 2]
    assert not deliveries.has_due()
    found, _ = deliveries.page(webhook.id, limit=5)
    assert {one.work_id for one in found} == {webhook.id}
