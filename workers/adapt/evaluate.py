"""What the exported network is worth: accuracy on test images, with its interval."""

import math
from dataclasses import dataclass

from torch import Tensor

from workers.contracts.artifacts import Interval

Z_95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Accuracy 0 to 1 on test images, in all and by class, with Wilson's 95 % interval."""

    accuracy: float
    interval: Interval
    per_class: dict[str, float]


def evaluate(logits_NK: Tensor, labels_N: Tensor, classes: tuple[str, ...]) -> Evaluation:
    """Return the accuracy of logits; a class without test images is left out of `per_class`."""
    correct = (logits_NK.argmax(dim=1) == labels_N).cpu()
    labels = labels_N.cpu()
    per_class = {
        name: float(correct[labels == label].double().mean())
        for label, name in enumerate(classes)
        if bool((labels == label).any())
    }
    num_correct = int(correct.sum())
    return Evaluation(
        accuracy=num_correct / len(correct), interval=wilson(num_correct, len(correct)), per_class=per_class
    )


def wilson(num_correct: int, number: int) -> Interval:
    """Return Wilson's 95 % interval of a proportion (Wilson 1927); it stays within 0 and 1 and never has length 0."""
    share = num_correct / number
    center = share + Z_95**2 / (2 * number)
    half = Z_95 * math.sqrt(share * (1 - share) / number + Z_95**2 / (4 * number**2))
    scale = 1 + Z_95**2 / number
    return Interval(low=max(0.0, (center - half) / scale), high=min(1.0, (center + half) / scale))
