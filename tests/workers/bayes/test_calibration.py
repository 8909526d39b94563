import math

import pytest
import torch

from workers.bayes.calibration import calibration_error


def logits(*probabilities: float) -> torch.Tensor:
    """Of two classes; the first has these probabilities."""
    p_N = torch.tensor(probabilities, dtype=torch.float64)
    return torch.stack([p_N, 1 - p_N], dim=1).log()


def test_it_is_the_mean_gap_between_confidence_and_accuracy_by_bin() -> None:
    # 0.9 and sure of class 0, right half of the time: a gap of 0.4. 0.65: right every time: a gap of 0.35.
    found = calibration_error(logits(0.9, 0.9, 0.65, 0.65), torch.tensor([0, 1, 0, 0]))

    assert found == pytest.approx((2 * 0.4 + 2 * 0.35) / 4)


def test_gaps_of_one_bin_cancel_and_those_of_two_do_not() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    within = calibration_error(logits(0.75, 0.75, 0.75, 0.75), labels)
    across = calibration_error(logits(0.75, 0.75, 0.95, 0.95), labels)

    assert within == pytest.approx(0.0, abs=1e-12)
    assert across == pytest.approx((2 * 0.25 + 2 * 0.45) / 4)


def test_the_ends_of_the_scale_are_counted() -> None:
    sure = torch.tensor([[1000.0, 0.0], [1000.0, 0.0]])

    assert calibration_error(sure, torch.tensor([0, 1])) == pytest.approx(0.5)
    assert calibration_error(torch.zeros(4, 20), torch.zeros(4, dtype=torch.long)) == pytest.approx(0.95)


def test_there_are_fifteen_bins() -> None:
    # 0.61 and 0.67 lie on both sides of 10/15: their gaps, of opposite sign, do not cancel. Of ten bins they share one.
    found = calibration_error(logits(0.61, 0.67), torch.tensor([0, 1]))

    assert found == pytest.approx((0.39 + 0.67) / 2)


def test_a_classifier_as_sure_as_it_is_right_has_next_to_none() -> None:
    generator = torch.Generator().manual_seed(0)
    logits_NK = torch.randn(20_000, 5, generator=generator, dtype=torch.float64)
    labels_N = torch.multinomial(torch.softmax(logits_NK, dim=1), 1, generator=generator).squeeze(1)

    # A bin's gap has a standard deviation of at most sqrt(n_b) / 2: in the mean over 15 bins sqrt(15 / 20,000) / 2.
    assert calibration_error(logits_NK, labels_N) < 0.015
    assert calibration_error(3 * logits_NK, labels_N) > 0.1


def test_of_an_infinite_logit_it_is_no_number() -> None:
    assert math.isnan(calibration_error(torch.tensor([[math.inf, 0.0]]), torch.tensor([0])))
