"""How meta-runs make room for adaptations, by the worker cap that their jobs are told."""

import pytest

from service.errors import ClusterUnavailableError
from workers.contracts.meta_runs import MetaControl

OWNER = {"owner": "local"}


def test_adaptations_lower_the_cap_and_give_it_back(
    reconciler_with, running, add_adaptation, meta_job_of, job_of, records, cluster
):
    cluster.cpus = 8
    reconciler = reconciler_with()
    reconciler.step()
    assert meta_job_of(running.id).told() == MetaControl()
    adaptation = add_adaptation()
    reconciler.step()
    assert records.get(adaptation.id, **OWNER).state == "RUNNING"  # without waiting for the workers to go
    assert meta_job_of(running.id).told() == MetaControl(max_workers=4)
    job_of(adaptation.id).succeed()
    reconciler.step()
    reconciler.step()
    assert meta_job_of(running.id).told() == MetaControl(max_workers=None)


def test_what_waits_without_a_slot_takes_no_workers_away(
    reconciler_with, running, add_adaptation, meta_job_of, cluster
):
    cluster.cpus = 16
    for _ in range(3):
        add_adaptation()
    reconciler = reconciler_with(max_submitted=1)
    reconciler.step()
    assert meta_job_of(running.id).told().max_workers == 12


def test_the_control_file_is_written_only_when_it_changes(
    reconciler, running, add_adaptation, meta_job_of, store, monkeypatch
):
    add_adaptation()
    reconciler.step()
    reconciler.step()
    written = []
    write = store.put_bytes
    monkeypatch.setattr(store, "put_bytes", lambda key, *rest, **more: (written.append(key), write(key, *rest, **more)))
    reconciler.step()
    reconciler.step()
    assert written == []


def test_neither_a_stop_nor_a_cap_is_lost_to_the_other(
    reconciler_with, running, add_adaptation, meta_runs, meta_job_of, jobs, cluster
):
    cluster.cpus = 8
    reconciler = reconciler_with(stop_grace_s=3600.0)
    add_adaptation()
    reconciler.step()
    meta_runs.request_stop(running.id, **OWNER)
    reconciler.step()
    assert meta_job_of(running.id).told() == MetaControl(desired="stop", max_workers=4)
    add_adaptation()
    reconciler_with(stop_grace_s=3600.0, max_submitted=2).step()
    assert meta_job_of(running.id).told() == MetaControl(desired="stop", max_workers=0)


def test_a_cluster_that_cannot_say_its_size_leaves_the_cap_as_it_is(
    reconciler_with, running, add_adaptation, meta_runs, meta_job_of, cluster, monkeypatch
):
    cluster.cpus = 8
    reconciler = reconciler_with(stop_grace_s=3600.0)
    add_adaptation()
    reconciler.step()

    def unknown():
        raise ClusterUnavailableError("Ray does not answer")

    monkeypatch.setattr(cluster, "capacity", unknown)
    meta_runs.request_stop(running.id, **OWNER)
    reconciler.step()
    assert meta_job_of(running.id).told() == MetaControl(desired="stop", max_workers=4)


def test_where_only_waiting_adaptations_are_left_an_unknown_size_lifts_no_cap(
    reconciler_with, running, add_adaptation, meta_job_of, job_of, cluster, monkeypatch
):
    cluster.cpus = 8
    reconciler = reconciler_with(max_submitted=None)
    first = add_adaptation()
    reconciler.step()
    job_of(first.id).succeed()
    reconciler.step()
    add_adaptation()

    def unknown():
        raise ClusterUnavailableError("Ray does not answer")

    monkeypatch.setattr(cluster, "capacity", unknown)
    reconciler.step()
    assert meta_job_of(running.id).told().max_workers == 4


@pytest.fixture
def patient_adaptation(reconciler, running, add_adaptation, meta_job_of, cluster):
    """An adaptation that the reconciler has seen running; the meta-run has what it leaves of 16 CPUs."""
    cluster.cpus = 16
    adaptation = add_adaptation()
    reconciler.step()
    reconciler.step()
    assert meta_job_of(running.id).told().max_workers == 12
    return adaptation


@pytest.fixture
def later(reconciler, monkeypatch):
    """Returns a function that sets the reconciler's clock forward, by seconds."""

    def set_forward(seconds):
        now_s = reconciler.adaptations.records.now() + seconds
        monkeypatch.setattr(reconciler.adaptations.records, "now", lambda: now_s)

    return set_forward


def test_a_meta_run_pauses_while_an_adaptation_finds_no_place(
    reconciler, running, patient_adaptation, meta_job_of, job_of, later
):
    later(60.0)
    reconciler.step()
    assert meta_job_of(running.id).told().max_workers == 0
    job_of(patient_adaptation.id).progress()
    reconciler.step()
    assert meta_job_of(running.id).told().max_workers == 12


def test_an_adaptation_that_is_tried_again_has_its_time_to_find_a_place_again(
    reconciler, running, patient_adaptation, meta_job_of, job_of, jobs, later, records
):
    job_of(patient_adaptation.id).progress()
    later(60.0)
    jobs.reports.pop(f"{patient_adaptation.id}-a1")
    for _ in range(3):
        reconciler.step()
        assert meta_job_of(running.id).told().max_workers == 12
    assert records.get(patient_adaptation.id, **OWNER).attempt == 2
    later(60.0)
    reconciler.step()
    assert meta_job_of(running.id).told().max_workers == 0
