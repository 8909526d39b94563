import shlex
import threading

import pytest

from service.errors import ClusterUnavailableError
from service.ray.jobs import JobStatus
from service.reconcile.adaptations import AdaptationSteps
from service.reconcile.decisions import Limits
from service.reconcile.executor import Reconciler
from service.reconcile.loop import ReconcileLoop
from service.reconcile.meta_runs import MetaRunSteps
from service.records.datasets import DatasetRecords
from service.records.lease import RECONCILER, Lease
from service.records.meta_runs import MetaRunRecords
from service.records.transitions import Change
from workers.adapt.plan import MAX_CPUS_PER_WORKER
from workers.contracts.adaptations import AttemptRequest, Control
from workers.store import layout


def reconciler_of(database, records, store, cluster, *, holder="a", max_submitted=1, cancel_grace_s=0.0, **patience):
    limits = Limits(max_attempts=3, cancel_grace_s=cancel_grace_s, stop_grace_s=0.0, **patience)
    return Reconciler(
        adaptations=AdaptationSteps(records=records, store=store, limits=limits),
        meta_runs=MetaRunSteps(
            records=MetaRunRecords(database), datasets=DatasetRecords(database), store=store, limits=limits
        ),
        cluster=cluster,
        lease=Lease(database, name=RECONCILER, holder=holder, ttl_s=30.0),
        max_submitted=max_submitted,
        max_meta_runs=1,
    )


@pytest.fixture
def reconciler(database, records, store, cluster):
    return reconciler_of(database, records, store, cluster)


@pytest.fixture
def state_of(records):
    def state(adaptation):
        found = records.get(adaptation.id, owner="local")
        return found.state, found.attempt

    return state


def test_a_job_gets_its_request_its_command_and_its_names(reconciler, records, add_adaptation, store, jobs):
    adaptation = add_adaptation(budget_s=30.0)
    reconciler.step()
    job_id = f"{adaptation.id}-a1"
    prefix = layout.attempt(adaptation.id, 1)
    command = ["python", "-m", "workers.adapt.job", "--store", store.url, "--attempt", prefix]
    assert shlex.split(jobs.entrypoints[job_id]) == command
    about = {"kind": "adaptation", "id": adaptation.id, "attempt": "1", "owner": "local"}
    shown = {"name": adaptation.id, "job_name": f"adaptation {adaptation.id} of local"}
    assert jobs.metadata[job_id] == {"service": records.home, **about, **shown}
    request = AttemptRequest.model_validate_json(store.get_bytes(f"{prefix}/request.json"))
    assert request.request == adaptation.request
    assert request.dataset_key == layout.dataset_archive(adaptation.dataset_sha256)
    assert (request.attempt, request.spent_s) == (1, 0.0)


def test_no_more_jobs_are_submitted_than_there_are_slots(database, records, store, cluster, add_adaptation, state_of):
    first, second, third = (add_adaptation() for _ in range(3))
    reconciler = reconciler_of(database, records, store, cluster, max_submitted=2)
    reconciler.step()
    reconciler.step()
    assert sorted(state_of(one)[0] for one in (first, second, third)) == ["QUEUED", "RUNNING", "RUNNING"]


def test_by_default_there_are_as_many_slots_as_jobs_find_cpus(database, records, store, cluster, jobs, add_adaptation):
    cluster.cpus = 2 * MAX_CPUS_PER_WORKER + 1
    for _ in range(3):
        add_adaptation()
    reconciler_of(database, records, store, cluster, max_submitted=None).step()
    assert len(jobs.reports) == 2


def test_a_manifest_becomes_a_result_and_frees_the_slot(reconciler, records, add_adaptation, job_of, state_of):
    first, second = add_adaptation(), add_adaptation()
    reconciler.step()
    running = next(one for one in (first, second) if state_of(one)[0] == "RUNNING")
    waiting = second if running is first else first
    job_of(running.id).succeed()
    reconciler.step()
    reconciler.step()
    done = records.get(running.id, owner="local")
    assert done.state == "SUCCEEDED"
    assert done.result.accuracy == 0.9
    assert done.result.architecture["space"] == "nas_bench_201"
    assert "weights.safetensors" in {artifact.name for artifact in done.artifacts}
    assert state_of(waiting)[0] == "RUNNING"


@pytest.mark.parametrize(("failure", "state"), [({}, "FAILED"), ({"code": "cancelled"}, "CANCELLED")])
def test_a_job_that_lives_on_after_its_failure_is_stopped(
    reconciler, add_adaptation, job_of, jobs, state_of, failure, state
):
    adaptation = add_adaptation()
    reconciler.step()
    job_of(adaptation.id).fail(**failure)
    reconciler.step()
    assert state_of(adaptation)[0] == state
    assert jobs.stopped == [f"{adaptation.id}-a1"]


def test_a_failure_file_ends_it(reconciler, records, add_adaptation, job_of, jobs):
    adaptation = add_adaptation()
    reconciler.step()
    job_of(adaptation.id).fail()
    jobs.set(f"{adaptation.id}-a1", JobStatus.FAILED)
    reconciler.step()
    assert records.get(adaptation.id, owner="local").error.code == "export_mismatch"
    assert jobs.stopped == []


def test_after_a_lost_head_work_goes_on_as_a_new_attempt(reconciler, records, add_adaptation, jobs, job_of, store):
    adaptation = add_adaptation()
    reconciler.step()
    job_of(adaptation.id).progress(elapsed_s=12.5)
    jobs.forget()
    reconciler.step()
    reconciler.step()
    assert f"{adaptation.id}-a2" in jobs.reports
    key = f"{layout.attempt(adaptation.id, 2)}/request.json"
    assert AttemptRequest.model_validate_json(store.get_bytes(key)).spent_s == 12.5
    job_of(adaptation.id, 1).succeed()  # what the old attempt still writes does not count
    reconciler.step()
    assert records.get(adaptation.id, owner="local").state == "RUNNING"


def test_attempts_that_fail_come_to_an_end(reconciler, records, add_adaptation, jobs):
    adaptation = add_adaptation()
    for attempt in (1, 2, 3):
        reconciler.step()
        jobs.set(f"{adaptation.id}-a{attempt}", JobStatus.FAILED, "exit code 1")
        reconciler.step()
    failed = records.get(adaptation.id, owner="local")
    assert (failed.state, failed.attempt, failed.error.code) == ("FAILED", 3, "attempts_exhausted")


def test_what_the_cluster_loses_does_not_count(reconciler, records, add_adaptation, jobs, job_of):
    adaptation = add_adaptation()
    for _ in range(5):
        reconciler.step()
        jobs.forget()
        reconciler.step()
    reconciler.step()
    running = records.get(adaptation.id, owner="local")
    assert (running.state, running.attempt, running.num_failures) == ("RUNNING", 6, 0)
    job_of(adaptation.id, 6).succeed()
    reconciler.step()
    assert records.get(adaptation.id, owner="local").state == "SUCCEEDED"


def test_what_the_cluster_keeps_losing_comes_to_an_end(database, records, store, cluster, add_adaptation, jobs):
    adaptation = add_adaptation(budget_s=5.0)
    reconciler = reconciler_of(database, records, store, cluster, missing_s=-1e6)
    for _ in range(3):
        reconciler.step()
        jobs.forget()
        reconciler.step()
    assert records.get(adaptation.id, owner="local").error.code == "attempts_exhausted"


def test_a_submission_that_arrives_late_is_stopped(database, records, store, cluster, add_adaptation, jobs, state_of):
    adaptation = add_adaptation()
    reconciler = reconciler_of(database, records, store, cluster, submit_grace_s=0.0)
    jobs.refuses = True  # as if it were on its way still
    with pytest.raises(ClusterUnavailableError):
        reconciler.step()
    jobs.refuses = False
    reconciler.step()
    reconciler.step()
    assert state_of(adaptation) == ("RUNNING", 2)
    jobs.set(f"{adaptation.id}-a1", JobStatus.RUNNING)
    reconciler.step()
    assert jobs.stopped == [f"{adaptation.id}-a1"]
    assert state_of(adaptation) == ("RUNNING", 2)


@pytest.mark.parametrize("state", ["CANCELLED", "QUEUED"])
def test_a_job_that_starts_after_its_attempt_was_given_up_is_stopped(
    reconciler, records, add_adaptation, jobs, monkeypatch, state
):
    adaptation = add_adaptation()
    submit = jobs.submit

    def slowly(*submission):
        records.change(records.get(adaptation.id, owner="local"), Change(state=state))  # another process had the lease
        submit(*submission)

    monkeypatch.setattr(jobs, "submit", slowly)
    reconciler.step()
    assert jobs.stopped == [f"{adaptation.id}-a1"]


def test_what_waits_goes_by_priority_then_by_arrival(reconciler, add_adaptation, jobs, job_of):
    order = {priority: add_adaptation(priority=priority).id for priority in (0, -1, 5, 1)}
    served = []
    for _ in order:
        reconciler.step()
        served.append(jobs.submissions.get(timeout=1.0).removesuffix("-a1"))
        job_of(served[-1]).succeed()
        reconciler.step()
    assert served == [order[5], order[1], order[0], order[-1]]


def test_a_cluster_that_is_down_loses_nothing(reconciler, add_adaptation, jobs, state_of, job_of, records):
    running, waiting = add_adaptation(), add_adaptation()
    reconciler.step()
    if state_of(running)[0] == "QUEUED":
        running, waiting = waiting, running
    jobs.down = True
    with pytest.raises(ClusterUnavailableError):
        reconciler.step()
    assert (state_of(running), state_of(waiting)) == (("RUNNING", 1), ("QUEUED", 1))
    job_of(running.id).succeed()
    with pytest.raises(ClusterUnavailableError):
        reconciler.step()
    assert state_of(running)[0] == "SUCCEEDED"


def test_attempts_whose_jobs_are_never_taken_come_to_an_end(
    database, records, store, cluster, add_adaptation, jobs, state_of
):
    adaptation = add_adaptation()
    reconciler = reconciler_of(database, records, store, cluster, missing_s=-1e6, submit_grace_s=0.0)
    jobs.refuses = True
    for attempt in (1, 2, 3):
        with pytest.raises(ClusterUnavailableError):  # so that the loop pauses
            reconciler.step()
        assert state_of(adaptation) == ("RUNNING", attempt)
        reconciler.step()
    error = records.get(adaptation.id, owner="local").error
    assert (error.code, "did not take the job" in error.detail) == ("attempts_exhausted", True)


def test_a_submission_whose_answer_is_lost_is_found_again(reconciler, add_adaptation, jobs, state_of):
    adaptation = add_adaptation()
    jobs.starts_but_fails = True
    with pytest.raises(ClusterUnavailableError):
        reconciler.step()
    assert state_of(adaptation) == ("RUNNING", 1)
    reconciler.step()
    assert list(jobs.reports) == [f"{adaptation.id}-a1"]


def test_a_job_that_was_recorded_but_never_submitted_is_started_again(reconciler, records, add_adaptation, jobs):
    adaptation = add_adaptation()
    reconciler.step()
    jobs.forget()  # as if the service had been killed between the two
    reconciler.step()
    reconciler.step()
    assert f"{adaptation.id}-a2" in jobs.reports


def test_a_job_that_nothing_waits_for_is_looked_for_and_stopped(reconciler, records, jobs, monkeypatch):
    monkeypatch.setattr("service.reconcile.orphans.LOOK_EVERY_S", 0.0)
    jobs.submit("ad-0-a1", "", {"service": records.home, "kind": "adaptation", "id": "ad-0", "attempt": "1"})
    reconciler.step()
    reconciler.step()
    assert jobs.stopped == ["ad-0-a1"]


def test_a_cancel_is_told_then_enforced_then_settled(database, records, store, cluster, add_adaptation, jobs, state_of):
    adaptation = add_adaptation()
    patient = reconciler_of(database, records, store, cluster, cancel_grace_s=3600.0)
    patient.step()
    records.request_cancel(adaptation.id, owner="local")
    patient.step()
    control = store.get_bytes(f"{layout.attempt(adaptation.id, 1)}/control.json")
    assert Control.model_validate_json(control).desired == "cancel"
    patient.step()
    assert jobs.stopped == []
    impatient = reconciler_of(database, records, store, cluster, cancel_grace_s=0.0)
    impatient.step()
    assert jobs.stopped == [f"{adaptation.id}-a1"]
    assert state_of(adaptation)[0] == "CANCELLING"
    impatient.step()
    assert state_of(adaptation)[0] == "CANCELLED"


def test_a_manifest_written_before_the_cancel_settles_means_success(
    reconciler, records, add_adaptation, job_of, state_of
):
    adaptation = add_adaptation()
    reconciler.step()
    records.request_cancel(adaptation.id, owner="local")
    job_of(adaptation.id).succeed()
    reconciler.step()
    assert state_of(adaptation)[0] == "SUCCEEDED"


@pytest.mark.parametrize("broken", [{"metrics_json": b"{}"}, {"architecture_json": b"[]"}])
def test_an_outcome_that_cannot_be_read_is_a_failure(reconciler, records, add_adaptation, job_of, jobs, broken):
    adaptation = add_adaptation()
    reconciler.step()
    job_of(adaptation.id).succeed(**broken)
    reconciler.step()
    assert records.get(adaptation.id, owner="local").error.code == "invalid_attempt_file"
    assert jobs.stopped == [f"{adaptation.id}-a1"]


def test_one_reconciler_acts_at_a_time(database, records, store, cluster, add_adaptation, jobs):
    idle = reconciler_of(database, records, store, cluster, holder="a")
    idle.step()
    adaptation = add_adaptation()
    reconciler_of(database, records, store, cluster, holder="b").step()
    assert jobs.reports == {}
    idle.step()
    assert list(jobs.reports) == [f"{adaptation.id}-a1"]


def test_a_step_ends_where_the_lease_is_lost(database, records, store, cluster, add_adaptation, jobs, monkeypatch):
    add_adaptation(), add_adaptation()
    reconciler = reconciler_of(database, records, store, cluster, max_submitted=2)
    answers = iter([True, False])
    monkeypatch.setattr(reconciler.lease, "keep", lambda: next(answers))
    reconciler.step()
    assert len(jobs.reports) == 1


def test_a_job_that_fails_for_one_adaptation_does_not_hold_up_the_next(
    database, records, store, cluster, add_adaptation, jobs, job_of, state_of
):
    first, second = add_adaptation(), add_adaptation()
    reconciler = reconciler_of(database, records, store, cluster, max_submitted=2)
    reconciler.step()
    jobs.set(f"{first.id}-a1", JobStatus.FAILED, "exit code 1")
    job_of(second.id).succeed()
    reconciler.step()
    assert (state_of(first), state_of(second)[0]) == (("QUEUED", 2), "SUCCEEDED")


@pytest.mark.parametrize("error", [ClusterUnavailableError("Ray does not answer"), OSError("no space left")])
def test_the_loop_goes_on_after_an_error_and_ends_when_told(
    reconciler, cluster, add_adaptation, jobs, monkeypatch, error
):
    failed = threading.Event()

    def fail_once():
        monkeypatch.undo()
        failed.set()
        raise error

    monkeypatch.setattr(cluster, "connect", fail_once)
    loop = ReconcileLoop(reconciler, interval_s=60.0)
    loop.start()
    assert failed.wait(20.0)
    adaptation = add_adaptation()
    loop.wake()
    assert jobs.submissions.get(timeout=20.0) == f"{adaptation.id}-a1"
    loop.stop()
    loop.join()
    assert not loop.alive
