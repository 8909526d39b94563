"""What an adaptation's view says beyond its record."""

import pytest

from service.adaptations.attempts import AttemptFiles
from service.adaptations.views import Views
from service.records.transitions import Change
from workers.contracts.errors import StoreError


def brought_to(records, adaptation, *states):
    for state in states:
        assert records.change(records.get(adaptation.id, owner="local"), Change(state=state))
    return records.get(adaptation.id, owner="local")


@pytest.fixture
def silent(store, monkeypatch):
    """The keys for which a store that fails was asked."""
    asked = []

    def fail(key):
        asked.append(key)
        raise StoreError("the store does not answer")

    monkeypatch.setattr(store, "get_bytes", fail)
    monkeypatch.setattr(store, "size", fail)
    return asked


def test_an_attempt_has_a_job_to_look_at_once_it_was_submitted(records, add_adaptation, store, cluster):
    views = Views(adaptations=records, store=store, cluster=cluster)

    def job_after(adaptation, *states):
        for state in states:
            seen = records.get(adaptation.id, owner="local")
            if state == "RUNNING":
                AttemptFiles(store, seen).write_request()
            assert records.change(seen, Change(state=state))
        (view,) = views.listed([records.get(adaptation.id, owner="local")])
        return view.links.job_id

    first, second = add_adaptation(), add_adaptation()
    assert job_after(first) is None
    assert job_after(first, "RUNNING") == f"{first.id}-a1"
    assert job_after(first, "QUEUED") is None
    assert job_after(first, "CANCELLED") is None
    assert job_after(second, "RUNNING", "QUEUED", "RUNNING") == f"{second.id}-a2"
    assert job_after(second, "FAILED") == f"{second.id}-a2"


def test_a_list_asks_a_store_that_fails_once(records, add_adaptation, store, cluster, silent):
    views = Views(adaptations=records, store=store, cluster=cluster)
    running = [brought_to(records, add_adaptation(), "RUNNING") for _ in range(2)]
    ended = [brought_to(records, add_adaptation(), "RUNNING", "QUEUED", "RUNNING", "FAILED") for _ in range(2)]
    for works in (running, ended, [*ended, *running]):
        silent.clear()
        shown = views.listed(works)
        assert len(silent) == 1
        assert [view.id for view in shown] == [one.id for one in works]
        assert {view.progress for view in shown} == {None}
        assert [view.links.job_id for view in shown] == [f"{one.id}-a1" if one in running else None for one in works]


def test_what_is_missing_or_cannot_be_read_of_one_is_no_failure_of_the_store(
    records, add_adaptation, store, cluster, job_of
):
    views = Views(adaptations=records, store=store, cluster=cluster)
    silent, damaged, talking = (brought_to(records, add_adaptation(), "RUNNING") for _ in range(3))
    store.put_bytes(AttemptFiles(store, damaged).key("progress.json"), b"no JSON")
    job_of(talking.id).progress(fraction=0.7)
    shown = views.listed([silent, damaged, talking])
    assert [view.progress and view.progress.fraction for view in shown] == [0.0, None, 0.7]
