"""Means with bootstrap intervals, of what was measured once for each task."""

from collections.abc import Sequence
from typing import Final

import numpy as np

NUM_RESAMPLES: Final = 10_000
LEVEL: Final = 0.95


def bootstrap(values: Sequence[float], *, seed: int = 0) -> dict[str, float]:
    """Return the mean and the ends of its 95 % interval: percentiles of the means of resampled values (Efron 1979).

    Of two priors on the same tasks, give the differences task by task: what makes a task hard then falls out.

    Args:
        values: One for each task; at least one.
        seed: Of the resampling: the same values give the same interval.
    """
    found = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(found), (NUM_RESAMPLES, len(found)))
    low, high = np.quantile(found[picks].mean(axis=1), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return {"mean": round(float(found.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}
