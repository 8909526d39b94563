"""What a meta-run's view says beyond its record."""

import pytest

from service.meta_runs.views import MetaRunViews
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
