from datetime import UTC, datetime
from itertools import pairwise

import pytest

from service.ray.jobs import JobReport, JobStatus
from service.reconcile.decide import AdaptationObservation, AskToEnd, Succeed, decide
from service.reconcile.decisions import PAUSES_S, Cancel, Fail, Limits, Retry, Start, StopJob, Submit, Untaken, Wait
from service.records.model import Adaptation
from workers.contracts.adaptations import AdaptationRequest, Failure
from workers.contracts.artifacts import Manifest

LIMITS = Limits(max_attempts=3, cancel_grace_s=10.0, stop_grace_s=100.0)
MANIFEST = Manifest(adaptation_id="ad-1", attempt=1, artifacts=())
FAILURE = Failure(code="export_mismatch", what="the model differs", got="0.3", expected="less", todo="Report it.")
CANCELLED = Failure(code="cancelled", what="the adaptation was cancelled")
ENDED = (JobStatus.STOPPED, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.MISSING)


def adaptation(state, attempt=1, num_failures=0):
    return Adaptation(
        id="ad-1",
        owner="local",
        attempt=attempt,
        state=state,
        request=AdaptationRequest(),
        dataset_id="ds-1",
        dataset_sha256="0" * 64,
        spent_s=0.0,
        num_failures=num_failures,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def decided(state, attempt=1, job=JobStatus.MISSING, message="", num_failures=0, **seen):
    observation = AdaptationObservation(job=JobReport(status=job, message=message), **seen)
    return decide(adaptation(state, attempt, num_failures), observation, LIMITS)


def test_what_waits_starts_once_a_slot_is_free():
    assert decided("QUEUED", slot_free=True) == Start()
    assert decided("QUEUED", slot_free=False) == Wait()


@pytest.mark.parametrize("state", ["RUNNING", "CANCELLING"])
@pytest.mark.parametrize("job", JobStatus)
@pytest.mark.parametrize("failure", [None, FAILURE, CANCELLED])
def test_a_manifest_means_success_whatever_else_is_seen(state, job, failure):
    assert decided(state, job=job, manifest=MANIFEST, failure=failure, asked_age_s=99.0) == Succeed(MANIFEST)


@pytest.mark.parametrize("state", ["RUNNING", "CANCELLING"])
@pytest.mark.parametrize("job", JobStatus)
def test_a_failure_that_the_job_tells_is_final_and_kept_in_its_words(state, job):
    decision = decided(state, job=job, failure=FAILURE)
    assert isinstance(decision, Fail)
    assert decision.problem.code == "export_mismatch"
    assert decision.problem.detail == "the model differs: got 0.3; expected less"
    assert decision.problem.todo == "Report it."


@pytest.mark.parametrize("state", ["RUNNING", "CANCELLING"])
def test_a_job_that_says_it_was_cancelled_was(state):
    assert decided(state, job=JobStatus.FAILED, failure=CANCELLED) == Cancel()


@pytest.mark.parametrize("job", [JobStatus.PENDING, JobStatus.RUNNING, JobStatus.UNKNOWN])
def test_a_job_that_lives_or_cannot_be_asked_about_is_left_alone(job):
    assert decided("RUNNING", attempt=3, job=job) == Wait()


@pytest.mark.parametrize("job", ENDED)
@pytest.mark.parametrize("num_failures", [0, 1])
def test_a_job_that_ended_without_a_word_gets_another_attempt(job, num_failures):
    decision = decided("RUNNING", attempt=7, job=job, num_failures=num_failures)
    assert isinstance(decision, Retry)
    assert decision.counts == (job != JobStatus.MISSING)


def test_a_job_that_the_cluster_does_not_know_gets_another_attempt_for_so_long_and_no_longer():
    patient = AdaptationRequest().budget_s + LIMITS.missing_s
    assert decided("RUNNING", num_failures=2, age_s=patient - 1).counts is False
    assert decided("RUNNING", num_failures=1, age_s=patient).counts is True
    assert isinstance(decided("RUNNING", num_failures=2, age_s=patient), Fail)


def test_of_attempts_that_the_cluster_lost_only_so_many_do_not_count():
    assert decided("RUNNING", attempt=LIMITS.max_lost, num_failures=0).counts is False
    assert decided("RUNNING", attempt=LIMITS.max_lost + 1, num_failures=0).counts is True
    assert decided("RUNNING", attempt=LIMITS.max_lost + 2, num_failures=1).counts is True
    assert isinstance(decided("RUNNING", attempt=LIMITS.max_lost + 3, num_failures=2), Fail)


def refused(*, number=1, first_age_s=0.0, last_age_s=0.0):
    return Untaken(number=number, first_age_s=first_age_s, last_age_s=last_age_s, why="status 500")


@pytest.mark.parametrize("number", [*range(1, len(PAUSES_S) + 1), 2000])
def test_a_job_that_the_cluster_did_not_take_is_submitted_again_after_a_growing_pause(number):
    pause_s = PAUSES_S[min(number, len(PAUSES_S)) - 1]
    assert decided("RUNNING", untaken=refused(number=number, last_age_s=pause_s - 0.1)) == Wait()
    assert decided("RUNNING", untaken=refused(number=number, last_age_s=pause_s)) == Submit()


def test_pauses_double_from_a_few_seconds_to_a_minute():
    assert PAUSES_S[0] < 5.0
    assert PAUSES_S[-1] == 60.0
    assert all(before < after <= 2 * before for before, after in pairwise(PAUSES_S))


def test_an_attempt_whose_job_is_not_taken_is_lost_after_its_grace_and_says_why():
    patient = refused(number=14, first_age_s=LIMITS.submit_grace_s - 0.1, last_age_s=60.0)
    assert decided("RUNNING", attempt=LIMITS.max_lost + 1, num_failures=2, age_s=1e6, untaken=patient) == Submit()
    over = refused(number=15, first_age_s=LIMITS.submit_grace_s, last_age_s=60.0)
    lost = decided("RUNNING", untaken=over)
    assert lost.counts is False
    assert lost.reason == "the cluster did not take the job, 15 times in 600 s: status 500"
    assert "status 500" in decided("RUNNING", num_failures=2, age_s=1e6, untaken=over).problem.detail


@pytest.mark.parametrize("job", [status for status in JobStatus if status != JobStatus.MISSING])
def test_a_job_that_the_cluster_knows_all_the_same_is_not_submitted_again(job):
    assert decided("RUNNING", job=job, untaken=refused(last_age_s=99.0)) != Submit()


@pytest.mark.parametrize("seen", [{"manifest": MANIFEST}, {"failure": FAILURE}])
def test_what_a_job_has_left_counts_before_its_submission_is_repeated(seen):
    assert isinstance(decided("RUNNING", untaken=refused(last_age_s=99.0), **seen), Succeed | Fail)


def test_a_cancel_is_settled_although_the_job_was_not_taken():
    assert decided("CANCELLING", untaken=refused(last_age_s=99.0), cancel_written=True) == Cancel()


@pytest.mark.parametrize("job", ENDED)
def test_the_last_attempt_fails_with_what_the_cluster_said(job):
    decision = decided("RUNNING", attempt=3, job=job, message="Traceback\nMemoryError", num_failures=2, age_s=1e6)
    assert isinstance(decision, Fail)
    assert decision.problem.code == "attempts_exhausted"
    assert "Attempt 3" in decision.problem.detail
    assert decision.problem.errors == ("Traceback", "MemoryError")


@pytest.mark.parametrize("job", [JobStatus.RUNNING, JobStatus.UNKNOWN])
def test_a_cancel_is_first_told_to_the_job(job):
    assert decided("CANCELLING", job=job, asked_age_s=0.1) == AskToEnd()
    assert decided("CANCELLING", job=job, asked_age_s=0.1, cancel_written=True) == Wait()


@pytest.mark.parametrize("told", [True, False])
def test_a_job_that_does_not_end_in_time_is_stopped(told):
    assert decided("CANCELLING", job=JobStatus.RUNNING, asked_age_s=10.0, cancel_written=told) == StopJob()


def test_a_job_that_has_not_begun_is_stopped_at_once():
    assert decided("CANCELLING", job=JobStatus.PENDING) == StopJob()


@pytest.mark.parametrize("job", ENDED)
def test_a_cancel_is_settled_once_the_job_has_ended(job):
    assert decided("CANCELLING", job=job, cancel_written=True) == Cancel()


def test_a_cluster_that_cannot_be_asked_settles_no_cancel():
    assert decided("CANCELLING", job=JobStatus.UNKNOWN, asked_age_s=99.0, cancel_written=True) == Wait()
