"""Events and the outbox, in both kinds of database."""

import pytest

from service.records import events as records_of_events
from service.records.events import EventRecords, Followed, record_event
from service.records.transitions import Change
from service.records.webhooks import WebhookRecords
from service.schemas import Problem


@pytest.fixture
def events(database):
    return EventRecords(database)


@pytest.fixture
def tell(database):
    """Returns a function that records an event of a work that needs no row."""

    def record(work_id, kind="adaptation.queued", owner="local"):
        with database.transaction() as session:
            return record_event(session, work_id=work_id, owner=owner, kind=kind)

    return record


def followed(adaptation):
    return Followed("adaptation", adaptation.id)


def kinds(standing):
    return [event.kind for event in standing.events]


def test_events_are_numbered_from_one_for_each_work(events, tell):
    assert [tell("ad-1"), tell("ad-1"), tell("ad-2")] == [1, 2, 1]
    assert [event.sequence for event in events.page("ad-1", after=0, limit=10)] == [1, 2]
    assert [event.sequence for event in events.page("ad-1", after=1, limit=10)] == [2]
    assert len(events.page("ad-1", after=0, limit=1)) == 1


def test_a_standing_tells_state_and_what_is_new(events, records, add_adaptation):
    first, second = add_adaptation(), add_adaptation()
    records.change(first, Change(state="RUNNING"))
    found = events.standings({followed(first): 1, followed(second): 0})
    assert (found[followed(first)].state, kinds(found[followed(first)])) == ("RUNNING", ["adaptation.running"])
    assert (found[followed(second)].state, kinds(found[followed(second)])) == ("QUEUED", ["adaptation.queued"])
    assert not any(one.settled for one in found.values())


def test_what_has_ended_has_settled_with_its_last_event(events, records, add_adaptation):
    adaptation = add_adaptation()
    records.change(adaptation, Change(state="RUNNING"))
    error = Problem(title="It broke", status=500, code="broken")
    records.change(records.get(adaptation.id, owner="local"), Change(state="FAILED", error=error))
    found = events.standings({followed(adaptation): 1})[followed(adaptation)]
    assert found.settled
    assert kinds(found) == ["adaptation.running", "adaptation.failed"]
    assert found.events[-1].data["error"]["code"] == "broken"
    assert events.standings({followed(adaptation): 3})[followed(adaptation)].settled


def test_a_new_attempt_is_told(events, records, add_adaptation):
    adaptation = add_adaptation()
    records.change(adaptation, Change(state="RUNNING"))
    records.change(records.get(adaptation.id, owner="local"), Change(state="QUEUED"))
    found = events.standings({followed(adaptation): 2})[followed(adaptation)]
    assert (found.attempt, found.events[0].data) == (2, {"attempt": 2})


def test_what_has_no_row_has_settled(events):
    one = Followed("adaptation", "ad-none")
    assert events.standings({one: 0})[one].settled


def test_what_does_not_fit_into_one_look_comes_with_the_next(events, records, add_adaptation, monkeypatch):
    adaptation = add_adaptation()
    records.request_cancel(adaptation.id, owner="local")
    monkeypatch.setattr(records_of_events, "MAX_ROWS", 1)
    first = events.standings({followed(adaptation): 0})[followed(adaptation)]
    assert (kinds(first), first.settled) == (["adaptation.queued"], False)
    rest = events.standings({followed(adaptation): 1})[followed(adaptation)]
    assert (kinds(rest), rest.settled) == (["adaptation.cancelled"], True)


def test_of_many_works_each_gets_its_turn(events, records, add_adaptation, monkeypatch):
    works = [followed(add_adaptation()) for _ in range(3)]
    monkeypatch.setattr(records_of_events, "MAX_BEHIND", 2)
    after = dict.fromkeys(works, 0)
    found = events.standings(after)
    assert sum(len(one.events) for one in found.values()) == 2
    found = events.standings({one: len(standing.events) for one, standing in found.items()})
    assert sum(len(one.events) for one in found.values()) == 1


def test_an_event_goes_to_its_owners_webhooks_of_that_kind(database, tell):
    webhooks = WebhookRecords(database)

    def add(owner, kinds=None):
        return webhooks.add("https://lab.example", secret="s", kinds=kinds, owner=owner)

    everything, some, _, _ = add("ann"), add("ann", ("adaptation.failed",)), add("ann", ("dataset.ready",)), add("bob")
    webhooks.delete(add("ann").id, owner="ann")
    tell("ad-1", "adaptation.failed", "ann")
    assert waiting(database) == {everything.id, some.id}


def test_an_event_that_is_undone_goes_nowhere(database, events):
    WebhookRecords(database).add("https://lab.example", secret="s", kinds=None, owner="ann")

    def fail():
        with database.transaction() as session:
            record_event(session, work_id="ad-1", owner="ann", kind="adaptation.queued")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert events.page("ad-1", after=0, limit=1) == ()
    assert waiting(database) == set()


def waiting(database):
    from sqlalchemy import select

    from service.records.tables import DeliveryRow

    with database.transaction() as session:
        return set(session.scalars(select(DeliveryRow.webhook_id).where(DeliveryRow.next_at.is_not(None))))
