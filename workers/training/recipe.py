"""How a network is trained, wherever one is: for a moment in a trial or a race, and in the end.

One recipe for all three, so that what is judged is what will be exported: SGD with Nesterov's momentum, a rate that
rises, then falls along a cosine to zero, weight decay on matrices, gradients clipped.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.network import Network
from workers.contracts.base import Precision
from workers.training.precision import passes_in

LR: Final = 0.05
MOMENTUM: Final = 0.9
WEIGHT_DECAY: Final = 5e-4
RISE: Final = 0.05
CLIP: Final = 5.0


class Trainer:
    """Takes training steps on a network, in place; the caller says how far the training has come.

    Args:
        network: To train; set to training mode.
        precision: Of the passes.
    """

    def __init__(self, network: Network, precision: Precision = "float32") -> None:
        self._network, self._precision = network.train(), precision
        self._parameters = list(network.parameters())
        # Weight decay on matrices only: shrinking a batch norm's scale or a bias regularizes nothing.
        groups = [
            {"params": [p for p in self._parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in self._parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM, nesterov=True)

    def step(
        self,
        images: Tensor,
        labels: Tensor,
        progress: float,
        *,
        average: Callable[[Sequence[Tensor]], None] = lambda _: None,
    ) -> float:
        """Take one step; return the mean loss of the batch before it, in nats.

        A step whose gradient is not finite is left out.

        Args:
            images: Normalized [N, 3, R, R].
            labels: [N].
            progress: Share of the training that is done, 0 to 1: decides the rate.
            average: Replaces gradients by their means over those that train together.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate(progress)
        self._optimizer.zero_grad(set_to_none=True)
        with passes_in(self._precision, images.device):
            logits_NK = self._network(images)
        loss = F.cross_entropy(logits_NK.float(), labels)
        loss.backward()
        average([p.grad for p in self._parameters if p.grad is not None])
        step_if_finite(self._optimizer, torch.nn.utils.clip_grad_norm_(self._parameters, CLIP))
        return float(loss.detach())


def rate(progress: float) -> float:
    """Return the learning rate when a share of the training is done: a linear rise, then a cosine to zero."""
    return LR * min(1.0, progress / RISE + 0.01) * 0.5 * (1 + math.cos(math.pi * progress))


def step_if_finite(optimizer: torch.optim.Optimizer, norm: Tensor) -> None:
    """Take the step; where the gradient's norm is not finite, leave it out and forget the momentum."""
    if bool(torch.isfinite(norm)):
        optimizer.step()
    else:
        optimizer.state.clear()
