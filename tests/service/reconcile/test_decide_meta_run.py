from datetime import UTC, datetime

import pytest

from service.ray.jobs import JobReport, JobStatus
from service.reconcile.decide_meta_run import Finish, MetaObservation, Stop, Tell, control_for, decide_meta_run
from service.reconcile.decisions import PAUSES_S, Cancel, Fail, Limits, Start, StopJob, Submit, Untaken, Wait
from service.records.model import MetaRun
from service.schemas import Problem
from workers.contracts.adaptations import Failure
from workers.contracts.meta_runs import DatasetChoice, MetaControl, MetaManifest, MetaRunRequest

LIMITS = Limits(max_attempts=3, cancel_grace_s=10.0, stop_grace_s=100.0)
FAILURE = Failure(code="diverged", what="the loss is not finite", got="nan", todo="Lower lr.")
CANCELLED = Failure(code="cancelled", what="the meta-run was cancelled")
UNSETTLED = ("RUNNING", "STOPPING", "CANCELLING")
ENDED = (JobStatus.STOPPED, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.MISSING)


def manifest(*, complete):
    return MetaManifest(meta_run_id="mr-1", attempt=1, prior_id="p", step=10, complete=complete, artifacts=())


def said_before(desired, max_workers):
    return MetaControl(desired=desired, max_workers=max_workers)


def decided(state, job=JobStatus.MISSING, message="", num_failures=0, **seen):
    meta_run = MetaRun(
        id="mr-1",
        owner="local",
        attempt=3,
        state=state,
        request=MetaRunRequest(datasets=(DatasetChoice(dataset_id="ds-1"),)),
        datasets=(),
        prior_id="p",
        spent_s=0.0,
        num_failures=num_failures,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return decide_meta_run(meta_run, MetaObservation(job=JobReport(status=job, message=message), **seen), LIMITS)


def test_what_waits_starts_once_a_slot_is_free():
    assert decided("QUEUED", slot_free=True) == Start()
    assert decided("QUEUED", slot_free=False) == Wait()


def test_what_may_not_start_any_more_fails_in_place_of_starting():
    refusal = Problem(title="meta-runs may not learn from dataset pets", status=409, code="conflict")
    assert decided("QUEUED", slot_free=True, refusal=refusal) == Fail(refusal)
    assert decided("QUEUED", slot_free=False, refusal=refusal) == Wait()


@pytest.mark.parametrize("state", UNSETTLED)
@pytest.mark.parametrize("job", JobStatus)
@pytest.mark.parametrize("failure", [None, FAILURE, CANCELLED])
def test_a_complete_manifest_means_success_whatever_else_is_seen(state, job, failure):
    whole = manifest(complete=True)
    assert decided(state, job, manifest=whole, failure=failure, asked_age_s=999.0) == Finish(whole, "SUCCEEDED")


@pytest.mark.parametrize(
    ("state", "becomes"), [("RUNNING", "SUCCEEDED"), ("STOPPING", "STOPPED"), ("CANCELLING", "STOPPED")]
)
def test_an_incomplete_manifest_means_success_unless_the_run_was_asked_to_end(state, becomes):
    part = manifest(complete=False)
    assert decided(state, JobStatus.RUNNING, manifest=part) == Finish(part, becomes)


@pytest.mark.parametrize("state", UNSETTLED)
@pytest.mark.parametrize("job", JobStatus)
def test_a_failure_that_the_job_tells_is_kept_in_its_words(state, job):
    decision = decided(state, job, failure=FAILURE)
    assert isinstance(decision, Fail)
    assert decision.problem.code == "diverged"
    assert decision.problem.title == "The meta-run failed"
    assert decision.problem.detail == "the loss is not finite: got nan"


@pytest.mark.parametrize(("state", "decision"), [("RUNNING", Cancel()), ("STOPPING", Stop()), ("CANCELLING", Cancel())])
def test_a_job_that_says_it_was_cancelled_has_ended_as_it_was_asked(state, decision):
    assert decided(state, JobStatus.FAILED, failure=CANCELLED) == decision


@pytest.mark.parametrize("job", [JobStatus.PENDING, JobStatus.RUNNING, JobStatus.UNKNOWN])
def test_a_job_that_lives_or_cannot_be_asked_about_is_left_alone(job):
    assert decided("RUNNING", job, num_failures=9, num_in_a_row=99) == Wait()


@pytest.mark.parametrize("job", ENDED)
def test_a_job_that_got_further_before_it_was_lost_gets_another_attempt_and_counts_begin_anew(job):
    decision = decided("RUNNING", job, num_failures=2, num_in_a_row=0)
    assert (decision.counts, decision.afresh) == (False, True)


def test_what_the_cluster_loses_does_not_count_ten_times():
    for num_failures in (0, 2):
        last = num_failures + LIMITS.max_lost
        assert decided("RUNNING", num_failures=num_failures, num_in_a_row=last).counts is False
    assert decided("RUNNING", num_failures=0, num_in_a_row=LIMITS.max_lost + 1).counts is True
    assert isinstance(decided("RUNNING", num_failures=2, num_in_a_row=LIMITS.max_lost + 3), Fail)


def test_a_job_that_the_cluster_did_not_take_is_submitted_again_until_its_grace_is_over():
    def refused(first_age_s, last_age_s):
        untaken = Untaken(number=2, first_age_s=first_age_s, last_age_s=last_age_s, why="status 500")
        return decided("RUNNING", untaken=untaken, num_in_a_row=LIMITS.max_lost + 3, num_failures=2)

    assert refused(30.0, PAUSES_S[1] - 0.1) == Wait()
    assert refused(30.0, PAUSES_S[1]) == Submit()
    assert "status 500" in refused(LIMITS.submit_grace_s, 60.0).problem.detail


@pytest.mark.parametrize(("state", "decision"), [("STOPPING", Stop()), ("CANCELLING", Cancel())])
def test_one_that_was_asked_to_end_is_not_submitted_again(state, decision):
    untaken = Untaken(number=1, first_age_s=9.0, last_age_s=9.0, why="status 500")
    assert decided(state, untaken=untaken) == decision


@pytest.mark.parametrize("job", [status for status in ENDED if status != JobStatus.MISSING])
def test_a_job_that_ended_without_a_word_gets_another_attempt_until_they_are_exhausted(job):
    for num_failures in (0, 1):
        decision = decided("RUNNING", job, num_failures=num_failures, num_in_a_row=num_failures + 1)
        assert (decision.counts, decision.afresh) == (True, False)
    decision = decided("RUNNING", job, message="Traceback\nMemoryError", num_failures=2, num_in_a_row=3)
    assert isinstance(decision, Fail)
    assert (decision.problem.code, decision.problem.errors) == ("attempts_exhausted", ("Traceback", "MemoryError"))
    assert "resume" in decision.problem.todo


@pytest.mark.parametrize(("state", "decision"), [("STOPPING", Stop()), ("CANCELLING", Cancel())])
@pytest.mark.parametrize("job", ENDED)
def test_a_job_that_is_lost_while_it_ends_is_not_started_again(state, decision, job):
    assert decided(state, job) == decision


@pytest.mark.parametrize(("state", "grace_s"), [("STOPPING", 100.0), ("CANCELLING", 10.0)])
def test_a_job_has_its_grace_to_end_by_itself(state, grace_s):
    control = control_for(state, None)
    assert decided(state, JobStatus.RUNNING, asked_age_s=grace_s - 0.1, control=control) == Wait()
    assert decided(state, JobStatus.RUNNING, asked_age_s=grace_s, control=control) == StopJob()


@pytest.mark.parametrize("state", ["STOPPING", "CANCELLING"])
def test_a_job_that_has_not_begun_is_stopped_at_once(state):
    assert decided(state, JobStatus.PENDING) == StopJob()


@pytest.mark.parametrize("state", ["STOPPING", "CANCELLING"])
def test_a_cluster_that_cannot_be_asked_settles_nothing(state):
    assert decided(state, JobStatus.UNKNOWN, asked_age_s=999.0, control=control_for(state, None)) == Wait()


@pytest.mark.parametrize("state", UNSETTLED)
@pytest.mark.parametrize("job", [JobStatus.RUNNING, JobStatus.UNKNOWN])
@pytest.mark.parametrize("max_workers", [None, 0, 3])
@pytest.mark.parametrize(
    "said", [None, *(MetaControl(desired=d, max_workers=m) for d in ("run", "stop", "cancel") for m in (None, 2))]
)
def test_whatever_the_control_file_says_it_is_made_to_say_all_that_is_wanted(state, job, max_workers, said):
    wanted = MetaControl(
        desired={"RUNNING": "run", "STOPPING": "stop", "CANCELLING": "cancel"}[state], max_workers=max_workers
    )
    decision = decided(state, job, control=said, max_workers=max_workers)
    assert decision == (Wait() if (said or MetaControl()) == wanted else Tell(wanted))
