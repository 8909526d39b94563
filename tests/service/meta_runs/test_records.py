import itertools
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import update

from service.errors import ConflictError, IllegalTransitionError, NotFoundError
from service.records.priors import PriorRecords
from service.records.tables import MetaRunRow
from service.records.transitions import META_TRANSITIONS, MetaChange
from service.schemas import SETTLED_META_STATES, MetaResult, Problem
from workers.contracts.meta_runs import Counters

PROBLEM = Problem(title="It failed", status=500, code="error")
OWNER = {"owner": "local"}
# How each state is reached from a new meta-run.
WAYS = {
    "QUEUED": (),
    "RUNNING": ("RUNNING",),
    "STOPPING": ("RUNNING", "STOPPING"),
    "CANCELLING": ("RUNNING", "CANCELLING"),
    "STOPPED": ("RUNNING", "STOPPING", "STOPPED"),
    "SUCCEEDED": ("RUNNING", "SUCCEEDED"),
    "FAILED": ("RUNNING", "FAILED"),
    "CANCELLED": ("CANCELLED",),
}


def result(prior_id, **fields):
    values = {"prior_id": prior_id, "step": 9, "complete": True, "counters": Counters(), "data_wait": 0.0}
    return MetaResult(**{**values, **fields})


@pytest.fixture
def again(meta_runs):
    """Returns a function that reads a meta-run once more."""
    return lambda meta_run: meta_runs.get(meta_run.id, **OWNER)


@pytest.fixture
def in_state(meta_runs, add_meta_run, again):
    """Returns a function that brings a new meta-run into a state, the way the table allows."""

    def bring(state, **fields):
        meta_run = add_meta_run(**fields)
        for target in WAYS[state]:
            error = PROBLEM if target == "FAILED" else None
            assert meta_runs.change(again(meta_run), MetaChange(state=target, error=error))
        return again(meta_run)

    return bring


def test_a_new_meta_run_is_queued_as_its_first_attempt(add_meta_run):
    meta_run = add_meta_run(name="mine")
    assert re.fullmatch("mr-[0-9a-f]{12}", meta_run.id)
    assert (meta_run.state, meta_run.attempt, meta_run.spent_s) == ("QUEUED", 1, 0.0)
    assert meta_run.prior_id == f"nas_bench_201-{meta_run.id.removeprefix('mr-')}"
    assert (meta_run.request.name, meta_run.datasets[0].meta_train) == ("mine", ("cat", "dog"))


@pytest.mark.parametrize("source", WAYS)
@pytest.mark.parametrize("target", WAYS)
def test_the_table_is_walked(meta_runs, in_state, again, source, target):
    meta_run = in_state(source)
    if target not in META_TRANSITIONS[source]:
        with pytest.raises(IllegalTransitionError, match=f"{source} cannot become {target}"):
            meta_runs.change(meta_run, MetaChange(state=target))
        assert again(meta_run) == meta_run
        return
    assert meta_runs.change(meta_run, MetaChange(state=target, spent_s=2.0))
    now = again(meta_run)
    assert (now.state, now.spent_s) == (target, meta_run.spent_s + 2.0)
    assert now.attempt == meta_run.attempt + (target == "QUEUED")
    assert (now.finished_at is not None) == (target in SETTLED_META_STATES)
    assert not meta_runs.change(meta_run, MetaChange(state=target))


def test_what_has_settled_for_good_goes_nowhere_and_what_was_stopped_or_failed_can_be_resumed():
    ends = {state for state, targets in META_TRANSITIONS.items() if not targets}
    assert ends == {"SUCCEEDED", "CANCELLED"}
    assert {state: set(META_TRANSITIONS[state]) for state in SETTLED_META_STATES - ends} == {
        "STOPPED": {"QUEUED"},
        "FAILED": {"QUEUED"},
    }


@pytest.mark.parametrize("stale", [{"state": "STOPPING"}, {"attempt": 2}, {"id": "mr-another"}])
def test_a_change_does_nothing_where_the_record_is_not_as_seen(meta_runs, in_state, again, stale):
    meta_run = in_state("RUNNING")
    assert not meta_runs.change(replace(meta_run, **stale), MetaChange(state="FAILED", error=PROBLEM))
    assert again(meta_run) == meta_run


def test_a_stop_and_a_start_at_once_leave_one_consistent_record(meta_runs, add_meta_run, again):
    for _ in range(10):
        meta_run = add_meta_run()
        with ThreadPoolExecutor(2) as pool:
            started = pool.submit(meta_runs.change, meta_run, MetaChange(state="RUNNING"))
            stopped = pool.submit(meta_runs.request_stop, meta_run.id, **OWNER)
        assert stopped.result().state == again(meta_run).state == ("STOPPING" if started.result() else "STOPPED")


@pytest.mark.parametrize(
    ("ask", "source", "becomes"),
    [
        ("stop", "QUEUED", "STOPPED"),
        ("stop", "RUNNING", "STOPPING"),
        ("stop", "STOPPING", "STOPPING"),
        ("stop", "STOPPED", "STOPPED"),
        ("cancel", "QUEUED", "CANCELLED"),
        ("cancel", "RUNNING", "CANCELLING"),
        ("cancel", "STOPPING", "CANCELLING"),
        ("cancel", "CANCELLING", "CANCELLING"),
        ("cancel", "CANCELLED", "CANCELLED"),
        ("resume", "STOPPED", "QUEUED"),
        ("resume", "FAILED", "QUEUED"),
        ("resume", "QUEUED", "QUEUED"),
        ("resume", "RUNNING", "RUNNING"),
    ],
)
def test_what_is_asked_happens_once_however_often_it_is_asked(meta_runs, in_state, ask, source, becomes):
    meta_run = in_state(source)
    first = getattr(meta_runs, f"request_{ask}")(meta_run.id, **OWNER)
    assert first.state == becomes
    assert getattr(meta_runs, f"request_{ask}")(meta_run.id, **OWNER) == first


@pytest.mark.parametrize(
    ("ask", "source"),
    [
        *itertools.product(["stop"], ["CANCELLING", "CANCELLED", "SUCCEEDED", "FAILED"]),
        *itertools.product(["cancel"], ["STOPPED", "SUCCEEDED", "FAILED"]),
        *itertools.product(["resume"], ["STOPPING", "CANCELLING", "CANCELLED", "SUCCEEDED"]),
    ],
)
def test_what_is_impossible_is_a_conflict_that_names_the_state(meta_runs, in_state, again, ask, source):
    meta_run = in_state(source)
    with pytest.raises(ConflictError, match=f"is {source}") as caught:
        getattr(meta_runs, f"request_{ask}")(meta_run.id, **OWNER)
    assert caught.value.todo
    assert again(meta_run) == meta_run


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING"])
def test_a_comparison_is_not_stopped_but_cancelled(database, meta_runs, in_state, again, state):
    PriorRecords(database).add("another-v1", search_space="nas_bench_201", **OWNER)
    comparison = in_state(state, kind="compare", priors=("nas_bench_201-v4", "another-v1"))
    with pytest.raises(ConflictError, match="a comparison publishes nothing when stopped: cancel it") as caught:
        meta_runs.request_stop(comparison.id, **OWNER)
    assert f"POST /v1/meta-runs/{comparison.id}/cancel" in caught.value.todo
    assert again(comparison) == comparison
    assert meta_runs.request_cancel(comparison.id, **OWNER).state in {"CANCELLED", "CANCELLING"}


def test_a_resume_leaves_nothing_of_the_end_that_it_undoes(meta_runs, in_state, again):
    failed = in_state("FAILED")
    assert failed.error == PROBLEM
    resumed = meta_runs.request_resume(failed.id, **OWNER)
    assert (resumed.attempt, resumed.error, resumed.finished_at) == (2, None, None)
    stopping = in_state("STOPPING")
    meta_runs.change(stopping, MetaChange(state="STOPPED", result=result("early", complete=False)))
    assert again(stopping).asked_at is not None
    resumed = meta_runs.request_resume(stopping.id, **OWNER)
    assert (resumed.result, resumed.artifacts, resumed.asked_at) == (None, (), None)


def test_a_cancel_after_a_stop_begins_its_own_grace(meta_runs, in_state):
    stopping = in_state("STOPPING")
    cancelling = meta_runs.request_cancel(stopping.id, **OWNER)
    assert cancelling.asked_at >= stopping.asked_at


@pytest.mark.parametrize(("source", "target"), [("RUNNING", "SUCCEEDED"), ("STOPPING", "STOPPED")])
def test_the_prior_is_recorded_with_the_end(database, meta_runs, in_state, again, source, target):
    meta_run = in_state(source)
    assert meta_runs.change(meta_run, MetaChange(state=target, result=result("new-v1")))
    assert PriorRecords(database).ids(limit=10, **OWNER) == ("new-v1",)
    assert again(meta_run).result.prior_id == "new-v1"


def test_where_the_end_is_lost_to_another_so_is_the_prior(database, meta_runs, in_state):
    meta_run = in_state("RUNNING")
    meta_runs.request_cancel(meta_run.id, **OWNER)
    assert not meta_runs.change(meta_run, MetaChange(state="SUCCEEDED", result=result("new-v1")))
    assert PriorRecords(database).ids(limit=10, **OWNER) == ()


def test_a_run_that_is_resumed_and_stopped_at_the_same_step_names_the_same_prior_again(database, meta_runs, in_state):
    meta_run = in_state("STOPPING")
    for _ in range(2):
        assert meta_runs.change(meta_run, MetaChange(state="STOPPED", result=result("p-s9", complete=False)))
        resumed = meta_runs.request_resume(meta_run.id, **OWNER)
        assert meta_runs.change(resumed, MetaChange(state="RUNNING"))
        meta_run = meta_runs.request_stop(meta_run.id, **OWNER)
    assert PriorRecords(database).ids(limit=10, **OWNER) == ("p-s9",)


def test_a_name_that_is_taken_is_refused(database, meta_runs, add_meta_run, in_state):
    PriorRecords(database).add("taken-v1", search_space="nas_bench_201", **OWNER)
    for name in ("taken-v1", "nas_bench_201-v4"):
        with pytest.raises(ConflictError, match=name):
            add_meta_run(prior_id=name)
    first = in_state("RUNNING", prior_id="mine")
    with pytest.raises(ConflictError, match="mine"):
        add_meta_run(prior_id="mine")
    assert [one.id for one in (*meta_runs.active(), *meta_runs.waiting())] == [first.id]
    meta_runs.change(first, MetaChange(state="FAILED", error=PROBLEM))
    add_meta_run(prior_id="mine")
    with pytest.raises(ConflictError, match="mine"):
        meta_runs.request_resume(first.id, **OWNER)
    assert meta_runs.get(first.id, **OWNER).state == "FAILED"


def test_of_two_that_claim_a_name_at_once_one_gets_it(add_meta_run, meta_runs):
    def claim(_):
        try:
            return add_meta_run(prior_id="wanted").id
        except ConflictError:
            return None

    with ThreadPoolExecutor(4) as pool:
        won = list(filter(None, pool.map(claim, range(8))))
    assert won == [one.id for one in (*meta_runs.active(), *meta_runs.waiting())]
    assert len(won) == 1


@pytest.mark.parametrize("fields", [{"parent": "gone"}, {"kind": "compare", "priors": ("nas_bench_201-v4", "gone")}])
def test_a_prior_that_is_gone_is_not_begun_from(add_meta_run, meta_runs, fields):
    with pytest.raises(NotFoundError, match="gone"):
        add_meta_run(**fields)
    assert (*meta_runs.active(), *meta_runs.waiting()) == ()


def test_a_parent_that_is_in_use_is_not_deleted(database, add_meta_run, meta_runs):
    priors = PriorRecords(database)
    priors.add("parent-v1", search_space="nas_bench_201", **OWNER)
    meta_run = add_meta_run(parent="parent-v1")
    with pytest.raises(ConflictError, match=meta_run.id):
        priors.delete("parent-v1", **OWNER)
    meta_runs.request_stop(meta_run.id, **OWNER)
    priors.delete("parent-v1", **OWNER)
    with pytest.raises(NotFoundError, match="parent-v1"):
        meta_runs.request_resume(meta_run.id, **OWNER)
    assert meta_runs.get(meta_run.id, **OWNER).state == "STOPPED"


def test_another_owners_meta_run_is_not_found(meta_runs, add_meta_run):
    meta_run = add_meta_run()
    with pytest.raises(NotFoundError):
        meta_runs.get(meta_run.id, owner="somebody")
    assert meta_runs.page(owner="somebody", limit=10) == ((), None)


def test_pages_hold_everything_once_and_can_hold_one_state_only(meta_runs, add_meta_run):
    added = [add_meta_run().id for _ in range(5)]
    stopped = meta_runs.request_stop(added[0], **OWNER)
    found, cursor = [], None
    while True:
        page, cursor = meta_runs.page(limit=2, cursor=cursor, **OWNER)
        found += [meta_run.id for meta_run in page]
        if cursor is None:
            break
    assert sorted(found) == sorted(added)
    assert meta_runs.page(limit=10, state="STOPPED", **OWNER)[0] == (stopped,)
    assert sorted(meta_runs.positions(meta_runs.waiting()).values()) == [0, 1, 2, 3]


def test_each_kind_has_a_queue_of_its_own(database, meta_runs, add_meta_run):
    PriorRecords(database).add("another-v1", search_space="nas_bench_201", **OWNER)
    add_meta_run()
    comparisons = [add_meta_run(kind="compare", priors=("nas_bench_201-v4", "another-v1")) for _ in range(2)]
    assert [meta_runs.positions(comparisons)[one.id] for one in comparisons] == [0, 1]
    assert list(meta_runs.waiting(1, queue="compare")) == comparisons[:1]


def test_a_record_that_cannot_be_read_does_not_hide_the_others(database, meta_runs, add_meta_run, caplog):
    broken, sound = add_meta_run(), add_meta_run()
    with database.transaction() as session:
        session.execute(update(MetaRunRow).where(MetaRunRow.id == broken.id).values(request={"kind": "guess"}))
    with caplog.at_level(logging.ERROR, logger="service"):
        assert [one.id for one in (*meta_runs.active(), *meta_runs.waiting())] == [sound.id]
        assert [one.id for one in meta_runs.page(limit=10, **OWNER)[0]] == [sound.id]
    assert [broken.id in record.getMessage() for record in caplog.records] == [True]
