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
