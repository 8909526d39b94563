"""A cancel meets whatever else may happen: one table, with how it has to end.

A manifest that is there before the cancel settles wins; what has settled stays; no attempt is begun again.
"""

import pytest

from service.ray.jobs import JobStatus
from service.reconcile.adaptations import AdaptationSteps
from service.reconcile.decisions import Limits
from service.reconcile.executor import Reconciler
from service.reconcile.meta_runs import MetaRunSteps
from service.records.datasets import DatasetRecords
from service.records.lease import RECONCILER, Lease
from service.records.meta_runs import MetaRunRecords


class Race:
    """An adaptation, the cluster, the store and a reconciler, moved by hand.

    Attributes:
        job: The hand of the first attempt's job in the store.
        job_id: Its name on the cluster.
    """

    def __init__(self, database, records, store, cluster, adaptation, job):
        self._database, self._records, self._store, self._cluster = database, records, store, cluster
        self.adaptation, self.jobs, self.job = adaptation, cluster.jobs, job
        self.job_id = f"{adaptation.id}-a1"
        self._grace_s = 3600.0
        self.start_service()

    def start_service(self):
        """A new process: it knows what lies in the records and in the store."""
        limits = Limits(max_attempts=3, cancel_grace_s=self._grace_s, stop_grace_s=0.0)
        self._reconciler = Reconciler(
            adaptations=AdaptationSteps(records=self._records, store=self._store, limits=limits),
            meta_runs=MetaRunSteps(
                records=MetaRunRecords(self._database),
                datasets=DatasetRecords(self._database),
                store=self._store,
                limits=limits,
            ),
            cluster=self._cluster,
            lease=Lease(self._database, name=RECONCILER, holder="a", ttl_s=30.0),
            max_submitted=1,
            max_meta_runs=1,
        )

    def step(self, times=1):
        for _ in range(times):
            self._reconciler.step()

    def cancel(self):
        self._records.request_cancel(self.adaptation.id, owner="local")

    def lose_patience(self):
        """From here on, a job that has been told to end is stopped."""
        self._grace_s = 0.0
        self.start_service()

    def meanwhile(self, target, method, action, *, after=False):
        """Have something happen once, right before or after a call."""
        call = getattr(target, method)

        def with_it(*arguments, **options):
            setattr(target, method, call)
            if not after:
                action()
            result = call(*arguments, **options)
            if after:
                action()
            return result

        setattr(target, method, with_it)

    def found(self):
        return self._records.get(self.adaptation.id, owner="local")


@pytest.fixture
def race(database, records, store, cluster, add_adaptation, job_of):
    adaptation = add_adaptation()
    return Race(database, records, store, cluster, adaptation, job_of(adaptation.id))


def before_it_is_submitted(race):
    race.cancel()
    race.step()


def between_request_and_running(race):
    race.meanwhile(race._store, "put_bytes", race.cancel, after=True)
    race.step()


def while_it_is_submitted(race):
    race.meanwhile(race.jobs, "submit", race.cancel)
    race.step()
    race.jobs.set(race.job_id, JobStatus.PENDING)  # it reads no control file yet: it is stopped at once
    race.step(2)


def while_a_submission_fails(race):
    race.meanwhile(race.jobs, "submit", race.cancel)
    race.jobs.refuses = True
    with pytest.raises(Exception, match="status 500"):
        race.step()
    race.step()


def after_the_manifest(race):
    race.step()
    race.job.succeed()
    race.cancel()
    race.step()


def after_the_job_has_ended_well(race):
    race.step()
    race.cancel()
    race.step()
    race.job.succeed()
    race.jobs.set(race.job_id, JobStatus.SUCCEEDED)
    race.step()


def manifest_just_before_the_stop(race):
    race.step()
    race.cancel()
    race.step()
    race.lose_patience()
    race.meanwhile(race.jobs, "stop", race.job.succeed)
    race.step(2)


def manifest_just_after_the_stop(race):
    race.step()
    race.cancel()
    race.step()
    race.lose_patience()
    race.meanwhile(race.jobs, "stop", race.job.succeed, after=True)
    race.step(2)


def manifest_after_it_was_settled(race):
    race.step()
    race.cancel()
    race.step()
    race.jobs.set(race.job_id, JobStatus.STOPPED)
    race.step()
    race.job.succeed()
    race.step()


def the_job_obeys(race):
    race.step()
    race.cancel()
    race.step()
    race.job.fail(code="cancelled")
    race.step()


def the_job_fails_for_a_reason(race):
    race.step()
    race.cancel()
    race.job.fail()
    race.step()


def the_job_dies(race):
    race.step()
    race.cancel()
    race.jobs.set(race.job_id, JobStatus.FAILED)
    race.step(2)


def the_job_is_given_up_at_that_moment(race):
    race.step()
    race.jobs.set(race.job_id, JobStatus.FAILED)
    race.meanwhile(race.jobs, "report", race.cancel, after=True)
    race.step(2)


def the_head_is_lost(race):
    race.step()
    race.cancel()
    race.step()
    race.jobs.forget()
    race.step(2)


def the_cluster_is_away_for_a_while(race):
    race.step()
    race.cancel()
    race.jobs.down = True
    with pytest.raises(Exception, match="does not answer"):
        race.step()
    assert race.found().state == "CANCELLING"
    race.jobs.down = False
    race.lose_patience()
    race.step(3)


def the_service_dies_before_it_tells_the_job(race):
    race.step()
    race.cancel()
    race.lose_patience()
    race.step(3)


def the_service_dies_between_telling_and_stopping(race):
    race.step()
    race.cancel()
    race.step()
    race.start_service()
    race.step()
    race.lose_patience()
    race.step(2)


def the_service_dies_after_the_stop(race):
    race.step()
    race.cancel()
    race.step()
    race.jobs.stop(race.job_id)
    race.start_service()
    race.step()


RACES = {
    before_it_is_submitted: "CANCELLED",
    between_request_and_running: "CANCELLED",
    while_it_is_submitted: "CANCELLED",
    while_a_submission_fails: "CANCELLED",
    after_the_manifest: "SUCCEEDED",
    after_the_job_has_ended_well: "SUCCEEDED",
    manifest_just_before_the_stop: "SUCCEEDED",
    manifest_just_after_the_stop: "SUCCEEDED",
    manifest_after_it_was_settled: "CANCELLED",
    the_job_obeys: "CANCELLED",
    the_job_fails_for_a_reason: "FAILED",
    the_job_dies: "CANCELLED",
    the_job_is_given_up_at_that_moment: "CANCELLED",
    the_head_is_lost: "CANCELLED",
    the_cluster_is_away_for_a_while: "CANCELLED",
    the_service_dies_before_it_tells_the_job: "CANCELLED",
    the_service_dies_between_telling_and_stopping: "CANCELLED",
    the_service_dies_after_the_stop: "CANCELLED",
}
NEVER_SUBMITTED = {before_it_is_submitted, between_request_and_running, while_a_submission_fails}


@pytest.mark.parametrize(("run", "state"), RACES.items(), ids=lambda case: getattr(case, "__name__", None))
def test_a_cancel_ends_as_designed_whatever_it_meets(race, run, state):
    run(race)
    found = race.found()
    assert (found.state, found.attempt) == (state, 1)
    assert (found.result is not None) == (state == "SUCCEEDED")
    assert list(race.jobs.entrypoints) == ([] if run in NEVER_SUBMITTED else [race.job_id])
    race.step()
    assert race.found() == found, "it has settled"
