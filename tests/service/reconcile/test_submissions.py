"""A cluster that answers, but takes no jobs for a while: stepped second by second."""

import pytest

from service.errors import ClusterUnavailableError
from service.ray.jobs import JobReport, JobStatus
from service.reconcile.adaptations import START_TIMEOUT_S, AdaptationSteps
from service.reconcile.decisions import Limits
from service.reconcile.submissions import Submissions
from service.records.events import EventRecords
from service.records.transitions import Change

LIMITS = Limits(max_attempts=3, cancel_grace_s=0.0, stop_grace_s=0.0)
MISSING = JobReport(status=JobStatus.MISSING)


@pytest.fixture
def steps(records, store):
    return AdaptationSteps(records=records, store=store, limits=LIMITS)


@pytest.fixture
def began_s(records):
    return records.now()


@pytest.fixture
def step(steps, records, jobs, began_s):
    """Returns a function that takes an adaptation's next step at such a second; True where the cluster did as asked."""

    def at(adaptation, second):
        seen, now_s = records.get(adaptation.id, owner="local"), began_s + second
        steps.watch([seen], now_s=now_s)
        try:
            steps.advance(seen, jobs, now_s=now_s)
        except ClusterUnavailableError:
            return False
        return True

    return at


@pytest.fixture
def state_of(records):
    def state(adaptation):
        found = records.get(adaptation.id, owner="local")
        return found.state, found.attempt

    return state


def test_a_minute_without_submissions_costs_no_attempt_and_tells_no_event(
    step, add_adaptation, jobs, state_of, database
):
    adaptation = add_adaptation()
    jobs.refuses = True
    refused = [second for second in range(60) if not step(adaptation, second)]
    assert refused == [0, 4, 12, 28]
    assert state_of(adaptation) == ("RUNNING", 1)
    jobs.refuses = False
    assert all(step(adaptation, second) for second in range(60, 180))
    assert list(jobs.reports) == [f"{adaptation.id}-a1"]
    assert state_of(adaptation) == ("RUNNING", 1)
    events = EventRecords(database).page(adaptation.id, after=0, limit=100)
    assert [event.kind for event in events] == ["adaptation.queued", "adaptation.running"]


def test_a_job_that_is_not_taken_for_longer_is_a_lost_attempt(step, add_adaptation, jobs, state_of, records):
    adaptation = add_adaptation()
    jobs.refuses = True
    grace_s = int(LIMITS.submit_grace_s)
    refused = [second for second in range(grace_s) if not step(adaptation, second)]
    assert refused == [0, 4, 12, 28, *range(60, grace_s, 60)]
    assert state_of(adaptation) == ("RUNNING", 1)
    step(adaptation, grace_s)
    assert state_of(adaptation) == ("QUEUED", 2)
    assert records.get(adaptation.id, owner="local").num_failures == 0


def test_a_job_that_started_although_no_answer_came_is_lost_like_any_other(step, add_adaptation, jobs, state_of):
    adaptation = add_adaptation()
    jobs.starts_but_fails = True
    assert not step(adaptation, 0)
    jobs.starts_but_fails = False
    step(adaptation, 10)
    jobs.forget()
    step(adaptation, 20)
    assert state_of(adaptation) == ("QUEUED", 2)


def test_a_job_that_began_unseen_and_is_gone_is_not_started_again_over_what_it_left(
    step, add_adaptation, jobs, job_of, state_of
):
    adaptation = add_adaptation()
    jobs.refuses = True
    step(adaptation, 0)
    job_of(adaptation.id).progress()
    jobs.refuses = False
    step(adaptation, 10)
    assert (state_of(adaptation), jobs.reports) == (("QUEUED", 2), {})


def test_a_cluster_that_is_away_after_a_refusal_is_waited_for(step, add_adaptation, jobs, state_of):
    adaptation = add_adaptation()
    jobs.refuses = True
    step(adaptation, 0)
    jobs.refuses, jobs.down = False, True
    step(adaptation, 10)
    jobs.down = False
    step(adaptation, 20)
    assert list(jobs.reports) == [f"{adaptation.id}-a1"]
    assert state_of(adaptation) == ("RUNNING", 1)


def test_one_that_is_cancelled_before_its_job_was_taken_ends_without_one(step, add_adaptation, jobs, state_of, records):
    adaptation = add_adaptation()
    jobs.refuses = True
    step(adaptation, 0)
    jobs.refuses = False
    records.request_cancel(adaptation.id, owner="local")
    step(adaptation, 10)
    assert (state_of(adaptation), jobs.reports) == (("CANCELLED", 1), {})


def test_no_meta_run_pauses_for_an_adaptation_whose_job_was_not_taken(step, steps, add_adaptation, jobs, began_s):
    adaptation = add_adaptation()
    jobs.refuses = True
    for second in range(50):
        step(adaptation, second)
    assert not steps.is_starved(adaptation, now_s=began_s + 50)
    jobs.refuses = False
    step(adaptation, 60)
    step(adaptation, 61)  # from here on it may find no room
    assert not steps.is_starved(adaptation, now_s=began_s + 60 + START_TIMEOUT_S)
    assert steps.is_starved(adaptation, now_s=began_s + 61 + START_TIMEOUT_S)


@pytest.fixture
def refused(records, jobs, add_adaptation):
    """A submission that was refused once, at second 100, and whose it is."""
    adaptation, submissions = add_adaptation(), Submissions(records)
    jobs.refuses = True
    with pytest.raises(ClusterUnavailableError):
        submissions.submit(jobs, adaptation, "", {}, now_s=100.0)
    return submissions, adaptation


def test_a_refusal_is_remembered_with_its_times_and_words(refused, jobs):
    submissions, adaptation = refused
    with pytest.raises(ClusterUnavailableError):
        submissions.submit(jobs, adaptation, "", {}, now_s=104.0)
    untaken = submissions.untaken(adaptation, MISSING, now_s=110.0)
    assert (untaken.number, untaken.first_age_s, untaken.last_age_s) == (2, 10.0, 6.0)
    assert "status 500" in untaken.why


def test_a_refusal_of_an_attempt_that_was_given_up_is_forgotten(refused, records):
    submissions, adaptation = refused
    submissions.keep([adaptation])
    assert submissions.is_untaken(adaptation)
    records.change(adaptation, Change(state="RUNNING"))
    records.change(records.get(adaptation.id, owner="local"), Change(state="QUEUED"))
    submissions.keep([records.get(adaptation.id, owner="local")])
    assert not submissions.is_untaken(adaptation)


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.RUNNING, JobStatus.FAILED])
def test_a_job_that_was_seen_is_no_longer_refused(refused, status):
    submissions, adaptation = refused
    assert submissions.untaken(adaptation, JobReport(status=JobStatus.UNKNOWN), now_s=101.0) is not None
    assert submissions.untaken(adaptation, JobReport(status=status), now_s=102.0) is None
    assert submissions.untaken(adaptation, MISSING, now_s=103.0) is None
