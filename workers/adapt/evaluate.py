"""What the exported network is worth on test images: accuracy with its interval, likelihood, calibration."""

import math
from dataclasses import dataclass
from typing import Final

import torch.nn.functional as F
from torch import Tensor

from workers.bayes.calibration import calibration_error
from workers.contracts.artifacts import Interval

Z_95: Final = 1.959964


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What test images show.

    Attributes:
        accuracy: Share of them that are labeled correctly, 0 to 1.
        interval: Wilson's 95 % interval of the accuracy.
        per_class: Accuracy by class.
        nll: Mean negative log-likelihood of their labels, in nats; None where it is not finite.
        calibration_error: See `workers.bayes.calibration`; None where it is not finite.
    """

    accuracy: float
    interval: Interval
    per_class: dict[str, float]
    nll: float | None
    calibration_error: float | None


def evaluate(logits_NK: Tensor, labels_N: Tensor, classes: tuple[str, ...]) -> Evaluation:
    """Return what logits [N, K] say of labels [N]; a class without test images is left out of `per_class`."""
    correct = (logits_NK.argmax(dim=1) == labels_N).cpu()
    labels = labels_N.cpu()
    per_class = {
        name: float(correct[labels == label].double().mean())
        for label, name in enumerate(classes)
        if bool((labels == label).any())
    }
    num_correct = int(correct.sum())
    nll = float(F.cross_entropy(logits_NK.double(), labels_N))
    error = calibration_error(logits_NK, labels_N)
    return Evaluation(
        accuracy=num_correct / len(correct),
        interval=wilson(num_correct, len(correct)),
        per_class=per_class,
        nll=nll if math.isfinite(nll) else None,
        calibration_error=error if math.isfinite(error) else None,
    )


def wilson(num_correct: int, number: int) -> Interval:
    """Return Wilson's 95 % interval of a proportion (Wilson 1927); it stays within 0 and 1 and never has length 0."""
    share = num_correct / number
    center = share + Z_95**2 / (2 * number)
    half = Z_95 * math.sqrt(share * (1 - share) / number + Z_95**2 / (4 * number**2))
    scale = 1 + Z_95**2 / number
    return Interval(low=max(0.0, (center - half) / scale), high=min(1.0, (center + half) / scale))
