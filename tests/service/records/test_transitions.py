import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from service.errors import ConflictError, IllegalTransitionError, NotFoundError
from service.records.transitions import TRANSITIONS, Change
from service.schemas import FINAL_STATES, Problem

PROBLEM = Problem(title="It failed", status=500, code="error")


def test_a_new_adaptation_is_queued_as_its_first_attempt(add_adaptation):
    adaptation = add_adaptation()
    assert (adaptation.state, adaptation.attempt, adaptation.spent_s) == ("QUEUED", 1, 0.0)
    assert adaptation.created_at.tzinfo is not None
    assert adaptation.started_at is None


def test_a_change_takes_place_where_the_record_is_as_seen(records, add_adaptation):
    adaptation = add_adaptation()
    assert records.change(adaptation, Change(state="RUNNING"))
    running = records.get(adaptation.id, owner="local")
    assert running.state == "RUNNING"
    assert running.started_at >= adaptation.created_at


@pytest.mark.parametrize("stale", [{"state": "CANCELLING"}, {"attempt": 2}, {"id": "ad-another"}])
def test_a_change_does_nothing_where_the_record_is_not_as_seen(records, add_adaptation, stale):
    adaptation = add_adaptation()
    records.change(adaptation, Change(state="RUNNING"))
    seen = replace(records.get(adaptation.id, owner="local"), **stale)
    assert not records.change(seen, Change(state="FAILED", error=PROBLEM))
    assert records.get(adaptation.id, owner="local").state == "RUNNING"


def test_of_many_who_change_the_same_record_at_once_one_succeeds(records, add_adaptation):
    adaptation = add_adaptation()
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda _: records.change(adaptation, Change(state="RUNNING")), range(16)))
    assert sum(won) == 1


def test_a_cancel_and_a_start_at_once_leave_one_consistent_record(records, add_adaptation):
    for _ in range(10):
        adaptation = add_adaptation()
        with ThreadPoolExecutor(2) as pool:
            started = pool.submit(records.change, adaptation, Change(state="RUNNING"))
            cancelled = pool.submit(records.request_cancel, adaptation.id, owner="local")
        final = records.get(adaptation.id, owner="local")
        assert cancelled.result().state == final.state == ("CANCELLING" if started.result() else "CANCELLED")


@pytest.mark.parametrize(
    ("source", "target"),
    [pair for pair in itertools.product(TRANSITIONS, repeat=2) if pair[1] not in TRANSITIONS[pair[0]]],
)
def test_a_change_that_the_table_does_not_know_is_refused(records, add_adaptation, source, target):
    seen = replace(add_adaptation(), state=source)
    with pytest.raises(IllegalTransitionError, match=f"{source} cannot become {target}"):
        records.change(seen, Change(state=target))


def test_nothing_leaves_a_final_state():
    assert {state for state, targets in TRANSITIONS.items() if not targets} == set(FINAL_STATES)


def test_a_lost_attempt_is_counted_up_and_its_time_is_added(records, add_adaptation):
    adaptation = add_adaptation()
    for spent_s in (10.0, 2.5):
        records.change(records.get(adaptation.id, owner="local"), Change(state="RUNNING"))
        running = records.get(adaptation.id, owner="local")
        assert records.change(running, Change(state="QUEUED", spent_s=spent_s))
    queued = records.get(adaptation.id, owner="local")
    assert (queued.state, queued.attempt, queued.spent_s) == ("QUEUED", 3, 12.5)
    records.change(queued, Change(state="RUNNING"))
    assert records.get(adaptation.id, owner="local").started_at == queued.started_at


def test_a_failure_keeps_its_problem(records, add_adaptation):
    adaptation = add_adaptation()
    records.change(adaptation, Change(state="RUNNING"))
    records.change(records.get(adaptation.id, owner="local"), Change(state="FAILED", error=PROBLEM))
    failed = records.get(adaptation.id, owner="local")
    assert failed.error == PROBLEM
    assert failed.finished_at is not None
    assert failed.result is None


def test_cancelling_what_waits_ends_it_at_once(records, add_adaptation):
    cancelled = records.request_cancel(add_adaptation().id, owner="local")
    assert cancelled.state == "CANCELLED"
    assert cancelled.cancel_requested_at is not None
    assert records.request_cancel(cancelled.id, owner="local") == cancelled


def test_cancelling_what_runs_twice_does_what_once_does(records, add_adaptation):
    adaptation = add_adaptation()
    records.change(adaptation, Change(state="RUNNING"))
    first = records.request_cancel(adaptation.id, owner="local")
    assert first.state == "CANCELLING"
    assert records.request_cancel(adaptation.id, owner="local") == first


def test_cancelling_what_has_ended_is_a_conflict(records, add_adaptation):
    adaptation = add_adaptation()
    records.change(adaptation, Change(state="RUNNING"))
    records.change(records.get(adaptation.id, owner="local"), Change(state="FAILED", error=PROBLEM))
    with pytest.raises(ConflictError, match="FAILED"):
        records.request_cancel(adaptation.id, owner="local")


def test_another_owners_adaptation_is_not_found(records, add_adaptation):
    adaptation = add_adaptation()
    with pytest.raises(NotFoundError):
        records.get(adaptation.id, owner="somebody")
