"""How a network is trained, wherever one is: for a moment in a trial or a race, and in the end.

One recipe for all three, so that what is judged is what will be exported: Muon for kernels that mix channels, SGD with
Nesterov's momentum for all else, rates that rise, then fall along a cosine to zero, gradients clipped.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.network import Network
from workers.contracts.base import Precision
from workers.training.muon import Muon, mixes_channels
from workers.training.precision import passes_in

# Goes up when networks are trained in another way: trials of two ways are not mixed.
RECIPE: Final = "3"
LR: Final = 0.05
# A share of a kernel's own size.
MUON_LR: Final = 0.03
MOMENTUM: Final = 0.9
# Of what SGD trains and has two dimensions or more: shrinking a batch norm's scale or a bias regularizes nothing.
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
        others = [p for p in self._parameters if not mixes_channels(p)]
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        sgd = torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM, nesterov=True)
        muon = Muon([p for p in self._parameters if mixes_channels(p)], lr=MUON_LR, momentum=MOMENTUM, relative=True)
        self._peaks = {sgd: LR, muon: MUON_LR}

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
            progress: Share of the training that is done, 0 to 1: decides the rates.
            average: Replaces gradients by their means over those that train together.
        """
        for optimizer, peak in self._peaks.items():
            for group in optimizer.param_groups:
                group["lr"] = peak * share_of_peak(progress)
            optimizer.zero_grad(set_to_none=True)
        with passes_in(self._precision, images.device):
            logits_NK = self._network(images)
        loss = F.cross_entropy(logits_NK.float(), labels)
        loss.backward()
        average([p.grad for p in self._parameters if p.grad is not None])
        step_if_finite(torch.nn.utils.clip_grad_norm_(self._parameters, CLIP), *self._peaks)
        return float(loss.detach())


def share_of_peak(progress: float) -> float:
    """Return the share of its peak that a rate has when a share of the training is done.

    A linear rise, then a cosine to zero.
    """
    return min(1.0, progress / RISE + 0.01) * 0.5 * (1 + math.cos(math.pi * progress))


def step_if_finite(norm: Tensor, *optimizers: torch.optim.Optimizer) -> None:
    """Take the step; where the gradient's norm is not finite, leave it out and forget the momentum."""
    finite = bool(torch.isfinite(norm))
    for optimizer in optimizers:
        if finite:
            optimizer.step()
        else:
            optimizer.state.clear()
