"""In which precision passes run: under autocast in `bfloat16`; weights, losses and gradients stay float32.

A CPU that multiplies bfloat16 numbers takes up to half the time for a step of plain convolutions, but longer for one of
depthwise ones; another CPU takes longer for either. So it is measured.
"""

import time
from collections.abc import Callable
from typing import Final

import torch

from workers.contracts.base import Precision

NUM_TIMED: Final = 3
# Seconds of timing after which one step in each has to be enough.
PATIENCE_S: Final = 0.5
# Of the time in float32, that a step in bfloat16 takes at most, to be worth its rounding.
WORTH: Final = 0.9


def passes_in(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context of a forward pass; its backward pass has the types that the forward pass had."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def faster_precision(step: Callable[[Precision], None], device: torch.device) -> Precision:
    """Return the precision in which a step takes less time, each timed up to three times in turn; the least counts.

    Args:
        step: Takes a step in a precision.
        device: That it computes on.
    """
    seconds: dict[Precision, float] = {"float32": float("inf"), "bfloat16": float("inf")}
    since_s = time.monotonic()
    for number in range(1 + NUM_TIMED):
        if number > 1 and time.monotonic() - since_s > PATIENCE_S:
            break
        for precision, least_s in seconds.items():
            start_s = time.monotonic()
            step(precision)
            wait_for(device)
            if number:  # the first chooses kernels
                seconds[precision] = min(least_s, time.monotonic() - start_s)
    return "bfloat16" if seconds["bfloat16"] < WORTH * seconds["float32"] else "float32"


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
