"""What a meta-run's view says beyond its record."""

import pytest

from service.meta_runs.views import MetaRunViews
from service.records.transitions import Change
from workers.contracts.errors import StoreError

OWNER = {"owner": "local"}


@pytest.fixture
def links_of(meta_runs, store, cluster):
    views = MetaRunViews(meta_runs=meta_runs, store=store, cluster=cluster)
    return lambda meta_run: views.listed([meta_runs.get(meta_run.id, **OWNER)])[0].links


def test_an_attempt_has_a_job_to_look_at_once_it_was_submitted(
    running, reconciler, meta_runs, meta_job_of, jobs, links_of, monkeypatch, store
):
    assert links_of(running).job_id == f"{running.id}-a1"
    jobs.forget()
    reconciler.step()
    assert meta_runs.get(running.id, **OWNER).state == "QUEUED"
    assert links_of(running).job_id is None
    meta_runs.request_stop(running.id, **OWNER)
    stopped = meta_runs.get(running.id, **OWNER)
    assert (stopped.state, stopped.attempt) == ("STOPPED", 2)
    assert (links_of(running).job_id, links_of(running).dashboard) == (None, None)

    meta_runs.request_resume(running.id, **OWNER)
    reconciler.step()
    meta_job_of(running.id, 3).finish(running.prior_id)
    reconciler.step()
    assert meta_runs.get(running.id, **OWNER).state == "SUCCEEDED"
    assert links_of(running).job_id == f"{running.id}-a3"
    assert links_of(running).dashboard.endswith(f"/#/jobs/{running.id}-a3")

    def down(*_):
        raise StoreError("the store does not answer")

    monkeypatch.setattr(store, "size", down)
    assert links_of(running).job_id is None


def test_a_list_asks_a_store_that_fails_once(add_meta_run, meta_runs, store, cluster, monkeypatch):
    views = MetaRunViews(meta_runs=meta_runs, store=store, cluster=cluster)

    def brought_to(*states):
        meta_run = add_meta_run()
        for state in states:
            assert meta_runs.change(meta_runs.get(meta_run.id, **OWNER), Change(state=state))
        return meta_runs.get(meta_run.id, **OWNER)

    running = [brought_to("RUNNING") for _ in range(2)]
    ended = [brought_to("RUNNING", "QUEUED", "RUNNING", "FAILED") for _ in range(2)]
    asked = []

    def fail(key):
        asked.append(key)
        raise StoreError("the store does not answer")

    monkeypatch.setattr(store, "get_bytes", fail)
    monkeypatch.setattr(store, "size", fail)
    for works in (running, ended, [*ended, *running]):
        asked.clear()
        shown = views.listed(works)
        assert len(asked) == 1
        assert {view.progress for view in shown} == {None}
        assert [view.links.job_id for view in shown] == [f"{one.id}-a1" if one in running else None for one in works]
