import math

import pytest
import torch

from workers.adapt.evaluate import evaluate, wilson


@pytest.mark.parametrize(
    ("correct", "number", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]
)
def test_wilson_gives_the_published_intervals(correct: int, number: int, low: float, high: float) -> None:
    """Newcombe 1998, table I, method 3."""
    interval = wilson(correct, number)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_accuracy_by_class_leaves_out_classes_without_test_images() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    found = evaluate(logits, torch.tensor([0, 1, 1]), ("a", "b", "c"))
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.per_class == {"a": 1.0, "b": 0.5}


def test_the_likelihood_is_that_of_the_labels() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    found = evaluate(logits, torch.tensor([0, 1]), ("a", "b", "c"))
    assert found.nll == pytest.approx((math.log(2) + math.log(10)) / 2)


def test_the_calibration_error_is_that_of_the_logits() -> None:
    # Four images at 0.9, three right: a gap of 0.15. One at 0.6, right: a gap of 0.4.
    logits = torch.log(torch.tensor([[0.9, 0.1]] * 4 + [[0.6, 0.4]]))
    found = evaluate(logits, torch.tensor([0, 0, 0, 1, 0]), ("a", "b"))
    assert found.calibration_error == pytest.approx(0.2, abs=1e-6)


def test_what_is_not_finite_is_left_out() -> None:
    found = evaluate(torch.tensor([[float("inf"), 0.0], [1.0, 0.0]]), torch.tensor([1, 0]), ("a", "b"))
    assert (found.nll, found.calibration_error) == (None, None)
