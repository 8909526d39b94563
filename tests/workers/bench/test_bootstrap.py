"""Bootstrap intervals: where they lie, how often they hold the truth, and that they are the same twice."""

import numpy as np
import pytest

from workers.bench.bootstrap import bootstrap


def test_an_interval_of_equal_values_has_no_length() -> None:
    assert bootstrap([0.25] * 7) == {"mean": 0.25, "low": 0.25, "high": 0.25}


def test_an_interval_of_many_values_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(0.3, 0.1, 400)

    found = bootstrap(values.tolist())

    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found["mean"] == pytest.approx(values.mean(), abs=1e-4)
    # Of 10,000 resamples, the ends' own standard deviation is a fiftieth of the half width; four of those.
    assert found["low"] == pytest.approx(values.mean() - half, abs=0.08 * half + 1e-4)
    assert found["high"] == pytest.approx(values.mean() + half, abs=0.08 * half + 1e-4)


def test_an_interval_is_a_function_of_the_values() -> None:
    values = [0.1, 0.5, 0.2, 0.9]

    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values) != bootstrap([*values[:3], 0.8])
