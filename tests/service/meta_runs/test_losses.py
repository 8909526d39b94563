"""What counts as a loss of a meta-run: neither what was asked to end, nor what the cluster did not take at once."""

import pytest

from service.errors import ClusterUnavailableError
from service.ray.jobs import JobStatus
from service.records.transitions import MetaChange
from service.schemas import DatasetChange
from workers.store import layout

OWNER = {"owner": "local"}


@pytest.fixture
def attempt_of(meta_runs):
    """Returns a function from a meta-run to its state, attempt, and attempts that count."""

    def found(meta_run):
        now = meta_runs.get(meta_run.id, **OWNER)
        return now.state, now.attempt, now.num_failures

    return found


@pytest.fixture
def lose(jobs):
    """Returns a function that has the cluster lose the job that runs, and the next attempt begin."""

    def step(reconciler, times=1):
        for _ in range(times):
            jobs.forget()
            reconciler.step()
            reconciler.step()

    return step


def stop_and_resume(reconciler, meta_runs, jobs, meta_run):
    """Stop it while no job of its lives, and have it go on."""
    meta_runs.request_stop(meta_run.id, **OWNER)
    jobs.forget()
    reconciler.step()
    assert meta_runs.get(meta_run.id, **OWNER).state == "STOPPED"
    meta_runs.request_resume(meta_run.id, **OWNER)
    reconciler.step()


def test_losses_before_a_stop_do_not_count_after_the_resume(reconciler, running, meta_runs, jobs, attempt_of, lose):
    lose(reconciler, 10)
    assert attempt_of(running) == ("RUNNING", 11, 0)
    stop_and_resume(reconciler, meta_runs, jobs, running)
    lose(reconciler, 10)
    assert attempt_of(running) == ("RUNNING", 22, 0)
    lose(reconciler)
    assert attempt_of(running) == ("RUNNING", 23, 1)


def test_nor_do_attempts_that_were_stopped(reconciler, running, meta_runs, jobs, attempt_of, lose):
    for _ in range(12):
        stop_and_resume(reconciler, meta_runs, jobs, running)
    lose(reconciler)
    assert attempt_of(running) == ("RUNNING", 14, 0)


def test_nor_do_those_before_a_stop_of_what_waits(reconciler, running, meta_runs, jobs, attempt_of, lose):
    lose(reconciler, 9)
    jobs.forget()
    reconciler.step()
    meta_runs.request_stop(running.id, **OWNER)
    assert attempt_of(running) == ("STOPPED", 11, 0)
    meta_runs.request_resume(running.id, **OWNER)
    reconciler.step()
    lose(reconciler, 10)
    assert attempt_of(running) == ("RUNNING", 22, 0)


def test_nor_does_one_that_was_stopped_just_before_it_was_recorded_as_running(
    reconciler, add_meta_run, meta_runs, store, attempt_of, lose, monkeypatch
):
    meta_run = add_meta_run()
    write = store.put_bytes

    def stopped_meanwhile(*arguments, **options):
        write(*arguments, **options)
        monkeypatch.undo()
        meta_runs.request_stop(meta_run.id, **OWNER)

    monkeypatch.setattr(store, "put_bytes", stopped_meanwhile)
    reconciler.step()
    assert attempt_of(meta_run) == ("STOPPED", 1, 0)
    meta_runs.request_resume(meta_run.id, **OWNER)
    reconciler.step()
    lose(reconciler, 10)
    assert attempt_of(meta_run) == ("RUNNING", 12, 0)


def test_nor_does_one_whose_datasets_were_withdrawn_while_it_waited(
    reconciler, running, meta_runs, jobs, attempt_of, lose, database
):
    from service.records.datasets import DatasetRecords

    datasets, (choice,) = DatasetRecords(database), running.request.datasets
    lose(reconciler, 9)
    datasets.change(choice.dataset_id, DatasetChange(meta_use=False), **OWNER)
    jobs.forget()
    reconciler.step()
    reconciler.step()
    assert attempt_of(running)[0] == "FAILED"
    datasets.change(choice.dataset_id, DatasetChange(meta_use=True), **OWNER)
    meta_runs.request_resume(running.id, **OWNER)
    reconciler.step()
    lose(reconciler, 10)
    assert attempt_of(running) == ("RUNNING", 22, 0)


def test_nor_does_one_whose_files_could_not_be_read(reconciler, running, meta_runs, jobs, store, attempt_of, lose):
    lose(reconciler, 10)
    store.put_bytes(f"{layout.meta_attempt(running.id, 11)}/control.json", b"[]")
    reconciler.step()
    assert attempt_of(running)[0] == "FAILED"
    meta_runs.request_resume(running.id, **OWNER)
    reconciler.step()
    lose(reconciler, 10)
    assert attempt_of(running) == ("RUNNING", 22, 0)


def test_a_reconciler_that_comes_second_tells_no_end_of_an_attempt_that_runs(
    reconciler, add_meta_run, meta_runs, meta_job_of, store, jobs, monkeypatch
):
    meta_run = add_meta_run()
    write = store.put_bytes

    def started_meanwhile(*arguments, **options):
        write(*arguments, **options)
        monkeypatch.undo()
        meta_runs.change(meta_run, MetaChange(state="RUNNING"))

    monkeypatch.setattr(store, "put_bytes", started_meanwhile)
    reconciler.step()
    assert meta_runs.get(meta_run.id, **OWNER).state == "RUNNING"
    assert store.size(f"{meta_job_of(meta_run.id).prefix}/failure.json") is None


def test_a_stop_whose_job_has_left_its_prior_keeps_it(reconciler, running, meta_runs, meta_job_of, jobs, store):
    meta_runs.request_stop(running.id, **OWNER)
    meta_job_of(running.id).finish("made-v1", complete=False)
    jobs.set(f"{running.id}-a1", JobStatus.SUCCEEDED)
    reconciler.step()
    assert meta_runs.get(running.id, **OWNER).result.prior_id == "made-v1"
    assert store.size(f"{meta_job_of(running.id).prefix}/failure.json") is None


def test_a_job_that_the_cluster_does_not_take_at_once_is_submitted_again(
    reconciler, add_meta_run, meta_runs, jobs, attempt_of, monkeypatch
):
    monkeypatch.setattr("service.reconcile.decisions.PAUSES_S", (0.0,))
    meta_run = add_meta_run()
    jobs.refuses = True
    for _ in range(20):
        with pytest.raises(ClusterUnavailableError):
            reconciler.step()
    assert attempt_of(meta_run) == ("RUNNING", 1, 0)
    jobs.refuses = False
    reconciler.step()
    reconciler.step()
    assert list(jobs.reports) == [f"{meta_run.id}-a1"]
    assert attempt_of(meta_run) == ("RUNNING", 1, 0)


def test_between_two_submissions_the_cluster_is_left_in_peace(reconciler, add_meta_run, jobs, attempt_of):
    meta_run = add_meta_run()
    jobs.refuses = True
    with pytest.raises(ClusterUnavailableError):
        reconciler.step()
    reconciler.step()
    reconciler.step()
    assert attempt_of(meta_run) == ("RUNNING", 1, 0)
