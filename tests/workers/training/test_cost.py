"""What a pass costs, and how many steps fit into the time of others."""

import pytest

from workers.training.cost import relative_cost, steps_in_equal_time


@pytest.mark.parametrize(("macs", "steps"), [(10**6, 30), (0, 60), (3 * 10**6, 15), (10**12, 1)])
def test_in_equal_time_a_cheap_network_takes_more_steps(macs: int, steps: int) -> None:
    assert steps_in_equal_time(30, macs, 10**6) == steps


def test_a_pass_through_the_reference_costs_one() -> None:
    assert relative_cost(7, 7) == 1.0
