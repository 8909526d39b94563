"""What passes through networks cost, one compared with another. Free of torch."""

from typing import Final

# Of the time of a pass, what does not shrink with the MACs: batch norm, activations, the head, the optimizer. An
# estimate from one machine, where a cell of 8.6 million MACs took 0.7 times the seconds of one of 21.9 million.
FIXED_SHARE: Final = 0.5


def relative_cost(macs: int, reference_macs: int) -> float:
    """Return what a pass through a network costs in passes through the reference."""
    return FIXED_SHARE + (1 - FIXED_SHARE) * macs / reference_macs


def steps_in_equal_time(num_steps: int, macs: int, reference_macs: int) -> int:
    """Return the steps that a network takes in the time in which the reference takes `num_steps`, at least one."""
    return max(1, round(num_steps / relative_cost(macs, reference_macs)))
