"""Some rows of the table that `make bench-recovery` makes whole: those that cover each kind of write once."""

import pytest

from benchmarks.recovery.__main__ import CASES, cluster_lost, killed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CHOSEN = {
    ("record the dataset", "after"),
    ("record the adaptation", "after"),
    ("record RUNNING", "after"),
    ("submit the job", "after"),
    ("record CANCELLING", "before"),
}


@pytest.mark.parametrize(
    "case", [case for case in CASES if (case.point, case.when) in CHOSEN], ids=lambda case: f"{case.when}-{case.point}"
)
def test_a_service_that_is_killed_leaves_work_that_ends_as_asked_and_once(case):
    row = killed(case)
    assert row.ok, row


def test_a_cluster_that_is_lost_and_back_costs_an_attempt_and_nothing_else():
    row = cluster_lost()
    assert row.ok, row
