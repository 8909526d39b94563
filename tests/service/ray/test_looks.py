"""Which job is looked at, by the state of its work."""

import pytest

from service.adaptations.attempts import AttemptFiles
from service.errors import NotFoundError
from service.ray.looks import job_log
from service.records.transitions import Change


def test_an_attempt_that_waits_points_to_the_job_of_the_one_before(records, add_adaptation, store, cluster, jobs):
    def log(attempt=None):
        seen = records.get(adaptation.id, owner="local")
        return job_log(cluster, seen, AttemptFiles(store, seen), attempt=attempt, num_bytes=100)

    adaptation = add_adaptation()
    with pytest.raises(NotFoundError, match="once its turn comes"):
        log()
    assert records.change(adaptation, Change(state="RUNNING"))
    jobs.submit(f"{adaptation.id}-a1", "", {})
    cluster.observed.logs[f"{adaptation.id}-a1"] = b"Killed"
    assert log() == log(1) == "Killed"
    assert records.change(records.get(adaptation.id, owner="local"), Change(state="QUEUED"))
    with pytest.raises(NotFoundError, match="attempt=1"):
        log()
    assert log(1) == "Killed"
