"""Jobs that nothing waits for are stopped; those of other records are not."""

import pytest

from service.ray.jobs import JobReport, JobStatus
from service.reconcile.orphans import LOOK_EVERY_S, Orphans
from service.records.meta_runs import MetaRunRecords


@pytest.fixture
def orphans(database, records):
    return Orphans(records, MetaRunRecords(database))


@pytest.fixture
def look(orphans, jobs):
    """Returns a function that looks so many times, as often as it may."""
    now_s = iter(range(0, 100 * int(LOOK_EVERY_S), int(LOOK_EVERY_S)))

    def times(number):
        for _ in range(number):
            orphans.look(jobs, now_s=float(next(now_s)))

    return times


@pytest.fixture
def live(jobs, records):
    """Returns a function that lets a job live with that metadata, which says that it is of these records."""

    def start(submission_id, **metadata):
        jobs.reports[submission_id] = JobReport(status=JobStatus.RUNNING)
        jobs.metadata[submission_id] = {"service": records.home, "kind": "adaptation", **metadata}

    return start


def test_a_job_of_an_attempt_that_was_given_up_is_stopped_at_the_second_look(look, live, jobs, add_adaptation):
    adaptation = add_adaptation()
    live(f"{adaptation.id}-a1", id=adaptation.id, attempt="1")
    live(f"{adaptation.id}-a0", id=adaptation.id, attempt="0")
    look(1)
    assert jobs.stopped == []
    look(1)
    assert jobs.stopped == [f"{adaptation.id}-a0"]


def test_a_job_of_work_that_has_ended_is_stopped(look, live, jobs, records, add_adaptation):
    adaptation = add_adaptation()
    records.request_cancel(adaptation.id, owner="local")
    live(f"{adaptation.id}-a1", id=adaptation.id, attempt="1")
    look(2)
    assert jobs.stopped == [f"{adaptation.id}-a1"]


@pytest.mark.parametrize("metadata", [{}, {"id": "ad-0"}, {"id": "ad-0", "attempt": "one"}, {"kind": "meta-run"}])
def test_a_job_of_work_that_the_records_do_not_know_is_stopped(look, live, jobs, metadata):
    live("lost", **metadata)
    look(2)
    assert jobs.stopped == ["lost"]


@pytest.mark.parametrize("metadata", [{"service": "another"}, {"kind": "somebody's"}])
def test_what_others_have_submitted_is_left_alone(look, live, jobs, metadata):
    live("theirs", id="ad-0", attempt="1", **metadata)
    look(3)
    assert jobs.stopped == []


def test_a_job_that_ends_after_its_outcome_is_not_stopped(look, live, jobs):
    live("ending", id="ad-0", attempt="1")
    look(1)
    jobs.set("ending", JobStatus.SUCCEEDED)
    look(2)
    assert jobs.stopped == []


def test_between_two_looks_the_cluster_is_left_in_peace(orphans, live, jobs):
    live("lost")
    orphans.look(jobs, now_s=0.0)
    orphans.look(jobs, now_s=LOOK_EVERY_S - 1)
    assert jobs.stopped == []


def test_a_cluster_that_does_not_answer_is_asked_again(look, live, jobs):
    live("lost")
    look(1)
    jobs.down = True
    look(1)
    jobs.down = False
    look(1)
    assert jobs.stopped == ["lost"]
