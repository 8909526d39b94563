import logging
import shlex

import pytest
from sqlalchemy import update

from service.errors import ClusterUnavailableError
from service.ray.jobs import JobStatus
from service.records.datasets import DatasetRecords
from service.records.priors import PriorRecords
from service.records.tables import DatasetRow
from service.schemas import DatasetChange
from workers.contracts.errors import StoreError
from workers.contracts.meta_runs import MetaAttemptRequest, MetaControl
from workers.store import layout

OWNER = {"owner": "local"}


@pytest.fixture
def state_of(meta_runs):
    def state(meta_run):
        found = meta_runs.get(meta_run.id, **OWNER)
        return found.state, found.attempt

    return state


def test_a_job_gets_its_request_its_command_and_its_names(reconciler, add_meta_run, store, jobs):
    meta_run = add_meta_run(name="ours", prior_id="ours-v1")
    reconciler.step()
    job_id, prefix = f"{meta_run.id}-a1", layout.meta_attempt(meta_run.id, 1)
    command = ["python", "-m", "workers.meta.job", "--store", store.url, "--attempt", prefix]
    assert shlex.split(jobs.entrypoints[job_id]) == command
    names = {"kind": "meta-run", "id": meta_run.id, "attempt": "1", "owner": "local", "name": "ours"}
    shown = {"job_name": "meta-run ours of local", "service": reconciler.meta_runs.records.home}
    assert jobs.metadata[job_id] == {**names, **shown}
    request = MetaAttemptRequest.model_validate_json(store.get_bytes(f"{prefix}/request.json"))
    assert (request.request, request.datasets) == (meta_run.request, meta_run.datasets)
    assert (request.meta_run_id, request.attempt, request.prior_id) == (meta_run.id, 1, "ours-v1")
    assert request.spent_s == 0.0


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_meta_runs_are_submitted_than_there_are_slots(reconciler_with, add_meta_run, state_of, most):
    added = [add_meta_run() for _ in range(3)]
    reconciler = reconciler_with(max_meta_runs=most)
    reconciler.step()
    reconciler.step()
    assert sorted(state_of(one)[0] for one in added) == ["QUEUED"] * (3 - most) + ["RUNNING"] * most


@pytest.fixture
def add_comparison(add_meta_run, database):
    """Returns a function that records a comparison."""
    PriorRecords(database).add("another-v1", search_space="nas_bench_201", **OWNER)
    return lambda: add_meta_run(kind="compare", priors=("nas_bench_201-v4", "another-v1"))


def test_runs_that_learn_and_comparisons_take_no_slot_from_each_other(
    reconciler, running, add_meta_run, add_comparison, state_of
):
    compared = [add_comparison() for _ in range(2)]
    learning = add_meta_run()
    reconciler.step()
    reconciler.step()
    assert sorted(state_of(one)[0] for one in compared) == ["QUEUED", "RUNNING"]
    assert (state_of(running)[0], state_of(learning)[0]) == ("RUNNING", "QUEUED")


@pytest.fixture
def forbid(database):
    """Returns a function that forbids to learn from the dataset of a meta-run."""

    def change(meta_run):
        (choice,) = meta_run.request.datasets
        DatasetRecords(database).change(choice.dataset_id, DatasetChange(meta_use=False), **OWNER)

    return change


def test_what_waits_does_not_learn_from_a_dataset_that_was_forbidden_meanwhile(
    reconciler, add_meta_run, add_comparison, forbid, meta_runs, jobs
):
    learning, compared = add_meta_run(), add_comparison()
    forbid(learning)
    reconciler.step()
    failed = meta_runs.get(learning.id, **OWNER)
    assert (failed.state, failed.attempt, failed.error.code, failed.error.status) == ("FAILED", 1, "conflict", 409)
    assert f"PATCH /v1/datasets/{learning.request.datasets[0].dataset_id}" in failed.error.todo
    assert failed.asked_at is None  # nobody asked it to end
    assert list(jobs.reports) == [f"{compared.id}-a1"]


def test_a_dataset_whose_record_cannot_be_read_costs_the_run_that_names_it_and_no_other(
    reconciler, add_meta_run, add_comparison, database, meta_runs, jobs
):
    learning, compared = add_meta_run(), add_comparison()
    (choice,) = learning.request.datasets
    with database.transaction() as session:
        session.execute(update(DatasetRow).values(report={"newer": 1}))
    reconciler.step()
    failed = meta_runs.get(learning.id, **OWNER)
    assert (failed.state, failed.error.code) == ("FAILED", "conflict")
    assert choice.dataset_id in failed.error.title
    assert list(jobs.reports) == [f"{compared.id}-a1"]


def test_nor_does_a_later_attempt(reconciler, running, forbid, meta_runs, jobs):
    forbid(running)
    reconciler.step()
    assert meta_runs.get(running.id, **OWNER).state == "RUNNING"
    lose(reconciler, jobs)
    failed = meta_runs.get(running.id, **OWNER)
    assert (failed.state, failed.attempt, failed.error.code) == ("FAILED", 2, "conflict")
    assert jobs.reports == {}


def test_meta_runs_take_no_slot_from_adaptations(reconciler, running, add_adaptation, jobs):
    adaptation = add_adaptation()
    reconciler.step()
    assert f"{adaptation.id}-a1" in jobs.reports


def test_a_manifest_becomes_a_result_with_its_prior(reconciler, running, meta_runs, meta_job_of, database):
    meta_job_of(running.id).progress(elapsed_s=60.0)
    meta_job_of(running.id).finish(running.prior_id)
    reconciler.step()
    done = meta_runs.get(running.id, **OWNER)
    assert (done.state, done.spent_s) == ("SUCCEEDED", 60.0)
    assert (done.result.prior_id, done.result.step, done.result.counters.slots) == (running.prior_id, 100, 100)
    assert [artifact.name for artifact in done.artifacts] == ["report.md"]
    assert PriorRecords(database).ids(limit=10, **OWNER) == (running.prior_id,)


def test_a_budget_that_ran_out_is_a_success(reconciler, running, meta_runs, meta_job_of):
    meta_job_of(running.id).finish(f"{running.prior_id}-s40", step=40, complete=False)
    reconciler.step()
    done = meta_runs.get(running.id, **OWNER)
    assert (done.state, done.result.complete) == ("SUCCEEDED", False)


def test_a_comparison_makes_no_prior(reconciler, add_meta_run, meta_runs, meta_job_of, database):
    PriorRecords(database).add("another-v1", search_space="nas_bench_201", **OWNER)
    comparison = add_meta_run(kind="compare", priors=("nas_bench_201-v4", "another-v1"))
    reconciler.step()
    meta_job_of(comparison.id).finish(None)
    reconciler.step()
    assert meta_runs.get(comparison.id, **OWNER).result.prior_id is None
    assert PriorRecords(database).ids(limit=10, **OWNER) == ("another-v1",)


def test_a_stop_is_told_then_obeyed_and_a_resume_goes_on(
    reconciler_with, running, meta_runs, meta_job_of, jobs, store, state_of
):
    patient = reconciler_with(stop_grace_s=3600.0, cancel_grace_s=0.0)
    meta_runs.request_stop(running.id, **OWNER)
    patient.step()
    assert meta_job_of(running.id).told() == MetaControl(desired="stop")
    patient.step()
    assert jobs.stopped == []
    meta_job_of(running.id).progress(elapsed_s=30.0, checkpoint_step=40)
    meta_job_of(running.id).finish(f"{running.prior_id}-s40", step=40, complete=False)
    patient.step()
    assert state_of(running) == ("STOPPED", 1)
    meta_runs.request_resume(running.id, **OWNER)
    patient.step()
    assert state_of(running) == ("RUNNING", 2)
    key = f"{layout.meta_attempt(running.id, 2)}/request.json"
    assert MetaAttemptRequest.model_validate_json(store.get_bytes(key)).spent_s == 30.0
    assert meta_job_of(running.id, 2).told() == MetaControl()


def test_a_stop_that_is_not_obeyed_is_enforced_and_leaves_what_a_resume_needs(
    reconciler_with, running, meta_runs, jobs, state_of
):
    impatient = reconciler_with(stop_grace_s=0.0)
    meta_runs.request_stop(running.id, **OWNER)
    impatient.step()
    assert jobs.stopped == [f"{running.id}-a1"]
    impatient.step()
    assert state_of(running) == ("STOPPED", 1)
    assert meta_runs.get(running.id, **OWNER).result is None


def test_a_stop_and_a_cancel_have_graces_of_their_own(reconciler_with, running, meta_runs, jobs, meta_job_of):
    reconciler = reconciler_with(stop_grace_s=3600.0, cancel_grace_s=0.0)
    meta_runs.request_stop(running.id, **OWNER)
    reconciler.step()
    assert jobs.stopped == []
    meta_runs.request_cancel(running.id, **OWNER)
    reconciler.step()
    assert jobs.stopped == [f"{running.id}-a1"]


def test_a_cancel_is_told_and_settled(reconciler_with, running, meta_runs, jobs, meta_job_of, state_of):
    reconciler = reconciler_with(cancel_grace_s=3600.0)
    meta_runs.request_cancel(running.id, **OWNER)
    reconciler.step()
    assert meta_job_of(running.id).told().desired == "cancel"
    meta_job_of(running.id).fail(code="cancelled", what="the meta-run was cancelled")
    reconciler.step()
    assert state_of(running) == ("CANCELLED", 1)
    assert jobs.stopped == [f"{running.id}-a1"]  # it may hang after it has told


@pytest.mark.parametrize(("complete", "state"), [(True, "SUCCEEDED"), (False, "STOPPED")])
def test_a_manifest_written_before_a_cancel_settles_counts(
    reconciler, running, meta_runs, meta_job_of, database, state_of, complete, state
):
    meta_runs.request_stop(running.id, **OWNER)
    meta_runs.request_cancel(running.id, **OWNER)
    meta_job_of(running.id).finish("made-v1", complete=complete)
    reconciler.step()
    assert state_of(running)[0] == state
    assert PriorRecords(database).ids(limit=10, **OWNER) == ("made-v1",)


def test_a_failure_ends_it_in_the_jobs_words(reconciler, running, meta_runs, meta_job_of, jobs):
    meta_job_of(running.id).fail()
    reconciler.step()
    failed = meta_runs.get(running.id, **OWNER)
    assert (failed.state, failed.error.code, failed.error.todo) == ("FAILED", "diverged", "Lower lr.")
    assert jobs.stopped == [f"{running.id}-a1"]


def test_a_lost_job_goes_on_as_a_new_attempt_and_what_the_old_one_writes_does_not_count(
    reconciler, running, meta_runs, meta_job_of, jobs, state_of, store
):
    meta_job_of(running.id).progress(elapsed_s=12.5)
    jobs.forget()
    reconciler.step()
    reconciler.step()
    assert state_of(running) == ("RUNNING", 2)
    key = f"{layout.meta_attempt(running.id, 2)}/request.json"
    assert MetaAttemptRequest.model_validate_json(store.get_bytes(key)).spent_s == 12.5
    meta_job_of(running.id, 1).finish(running.prior_id)
    reconciler.step()
    assert state_of(running) == ("RUNNING", 2)


def lose(reconciler, jobs, job=None, **progress):
    """Have the job that runs be lost after it told that."""
    if job is not None:
        job.progress(**progress)
    jobs.forget()
    reconciler.step()
    reconciler.step()


def fail(reconciler, jobs):
    """Have the job that runs end without a word."""
    (running,) = [name for name, report in jobs.reports.items() if report.status == JobStatus.RUNNING]
    jobs.set(running, JobStatus.FAILED)
    reconciler.step()
    reconciler.step()


def test_failures_in_a_row_come_to_an_end_and_a_resume_counts_anew(reconciler, running, meta_runs, jobs, state_of):
    for attempt in (2, 3):
        fail(reconciler, jobs)
        assert state_of(running) == ("RUNNING", attempt)
    fail(reconciler, jobs)
    failed = meta_runs.get(running.id, **OWNER)
    assert (failed.state, failed.attempt, failed.error.code) == ("FAILED", 3, "attempts_exhausted")
    meta_runs.request_resume(running.id, **OWNER)
    reconciler.step()
    for attempt in (5, 6):
        fail(reconciler, jobs)
        assert state_of(running) == ("RUNNING", attempt)
    fail(reconciler, jobs)
    assert state_of(running) == ("FAILED", 6)


def test_what_the_cluster_loses_counts_only_in_the_end(reconciler, running, meta_runs, jobs, state_of):
    num_lost, num_failures = 10, 2
    for attempt in range(1, num_lost + num_failures + 1):
        lose(reconciler, jobs)
        assert state_of(running) == ("RUNNING", attempt + 1)
    assert meta_runs.get(running.id, **OWNER).num_failures == num_failures
    lose(reconciler, jobs)
    assert state_of(running)[0] == "FAILED"


def test_a_new_checkpoint_makes_up_for_earlier_failures(reconciler, running, meta_runs, jobs, meta_job_of):
    fail(reconciler, jobs)
    meta_job_of(running.id, 2).progress(checkpoint_step=100)
    fail(reconciler, jobs)
    found = meta_runs.get(running.id, **OWNER)
    assert (found.attempt, found.num_failures) == (3, 0)


def test_a_new_trial_makes_up_for_earlier_failures_as_a_checkpoint_does(
    reconciler, running, meta_runs, jobs, meta_job_of
):
    for attempt, num_tried in enumerate((0, 3, 3), start=1):
        meta_job_of(running.id, attempt).progress(phase="trying", checkpoint_step=100, num_tried=num_tried)
        fail(reconciler, jobs)
        found = meta_runs.get(running.id, **OWNER)
        assert (found.attempt, found.num_failures) == (attempt + 1, (0, 0, 1)[attempt - 1])


def test_losses_with_progress_between_them_never_come_to_an_end(reconciler, running, jobs, meta_job_of, state_of):
    for attempt in range(1, 12):
        lose(reconciler, jobs, meta_job_of(running.id, attempt), checkpoint_step=100 * (attempt // 2))
        assert state_of(running) == ("RUNNING", attempt + 1)


def test_stops_of_a_run_that_waits_do_not_count_as_losses(reconciler_with, add_meta_run, meta_runs, jobs, state_of):
    meta_run = add_meta_run()
    for _ in range(4):
        meta_runs.request_stop(meta_run.id, **OWNER)
        meta_runs.request_resume(meta_run.id, **OWNER)
    reconciler = reconciler_with()
    reconciler.step()
    lose(reconciler, jobs)
    assert state_of(meta_run) == ("RUNNING", 6)


def test_a_cluster_that_is_down_loses_nothing_and_still_hears_of_a_stop(
    reconciler_with, running, meta_runs, meta_job_of, jobs, state_of
):
    jobs.down = True
    reconciler = reconciler_with(stop_grace_s=3600.0)
    with pytest.raises(ClusterUnavailableError):
        reconciler.step()
    assert state_of(running) == ("RUNNING", 1)
    meta_runs.request_stop(running.id, **OWNER)
    with pytest.raises(ClusterUnavailableError):
        reconciler.step()
    assert meta_job_of(running.id).told().desired == "stop"
    assert state_of(running) == ("STOPPING", 1)


def test_an_outcome_that_cannot_be_read_is_a_failure(reconciler, running, meta_runs, meta_job_of, store, jobs):
    meta_job_of(running.id).finish(running.prior_id)
    store.put_bytes(f"{layout.meta_attempt(running.id, 1)}/metrics.json", b"{}")
    reconciler.step()
    failed = meta_runs.get(running.id, **OWNER)
    assert (failed.state, failed.error.code) == ("FAILED", "invalid_attempt_file")
    assert jobs.stopped == [f"{running.id}-a1"]


def test_a_progress_that_cannot_be_read_costs_no_result(reconciler, running, meta_job_of, store, state_of):
    meta_job_of(running.id).finish(running.prior_id)
    store.put_bytes(f"{layout.meta_attempt(running.id, 1)}/progress.json", b"{}")
    reconciler.step()
    assert state_of(running)[0] == "SUCCEEDED"


def test_a_prior_whose_name_was_given_away_meanwhile_is_a_failure_that_says_so(
    reconciler, running, meta_runs, meta_job_of, database
):
    PriorRecords(database).add("stolen-v1", search_space="nas_bench_201", **OWNER)
    meta_job_of(running.id).finish("stolen-v1")
    reconciler.step()
    failed = meta_runs.get(running.id, **OWNER)
    assert (failed.state, failed.error.code) == ("FAILED", "conflict")


def test_one_whose_files_cannot_be_read_does_not_hold_up_the_next(
    reconciler_with, add_meta_run, meta_job_of, store, state_of, monkeypatch
):
    first, second = add_meta_run(), add_meta_run()
    reconciler = reconciler_with(max_meta_runs=2)
    reconciler.step()
    meta_job_of(second.id).finish(second.prior_id)
    read = store.get_bytes

    def failing(key):
        if first.id in key:
            raise StoreError("the store does not answer")
        return read(key)

    monkeypatch.setattr(store, "get_bytes", failing)
    reconciler.step()
    assert (state_of(first)[0], state_of(second)[0]) == ("RUNNING", "SUCCEEDED")


def test_of_two_reconcilers_one_acts(reconciler_with, add_meta_run, jobs):
    active, idle = reconciler_with(holder="a"), reconciler_with(holder="b")
    active.step()
    meta_run = add_meta_run()
    idle.step()
    assert jobs.reports == {}
    active.step()
    active.lease.release()
    idle.step()
    assert list(jobs.reports) == [f"{meta_run.id}-a1"]
    assert jobs.submissions.qsize() == 1


def test_a_job_that_ended_as_failed_is_told_in_the_log(reconciler, running, jobs, caplog):
    jobs.set(f"{running.id}-a1", JobStatus.FAILED, "exit code 1")
    with caplog.at_level(logging.WARNING, logger="service"):
        reconciler.step()
    assert any(running.id in record.getMessage() for record in caplog.records)
