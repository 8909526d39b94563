"""Three estimators of the gradient of an expected loss over random choices, behind one interface.

| symbol | meaning | in code |
|---|---|---|
| a | logits of the options | `logits_EO` |
| z_s | s-th of S architectures drawn from Cat(softmax a) | `choices_SE` |
| l_s | its loss | `losses_S` |
| b_s | mean of the other losses, the leave-one-out baseline | - |
| E, O, S | decisions, options, samples | suffixes |

| estimator | runs | its gradient of a | can be unrolled |
|---|---|---|---|
| `Relaxed` | all options, weighted | exact for the relaxed loss, which is not the expected loss | yes |
| `StraightThrough` | one option | biased | no |
| `ScoreFunction` | one option, S times | unbiased, and needs forward passes only | no |

Source: Williams 1992 (score function); Kool et al. 2019 (leave-one-out baseline); `relaxation.py` for the other two.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from search_spaces.errors import InvalidOptionError
from workers.bayes.relaxation import (
    check_temperature,
    gumbel_noise,
    gumbel_softmax,
    one_hot_choices,
    sample_choices,
    straight_through,
)

ChoiceLoss = Callable[[Tensor], Tensor]
"""op_weights [E, O] -> scalar loss."""


class Estimator(Protocol):
    """A way to differentiate E_z[loss(z)] by the logits and by whatever else the loss depends on.

    Attributes:
        smooth: Whether the estimate is a smooth function of the logits for fixed noise, so that it can be
            differentiated twice and its gradient is exact.
    """

    @property
    def smooth(self) -> bool: ...

    def expectation(self, loss: ChoiceLoss, logits_EO: Tensor, generator: torch.Generator) -> Tensor:
        """Return a scalar: its value estimates E_z[loss(z)], its gradient (by autograd) the gradient thereof."""
        ...


@dataclass(frozen=True, kw_only=True)
class Relaxed:
    """loss(softmax((a + G) / tau)): all options run. The paper's choice.

    Attributes:
        temperature: tau.
        noisy: Without noise it is the mixture of DARTS.
    """

    temperature: float
    noisy: bool = True
    smooth: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def expectation(self, loss: ChoiceLoss, logits_EO: Tensor, generator: torch.Generator) -> Tensor:
        if not self.noisy:
            return loss(gumbel_softmax(logits_EO, self.temperature, torch.zeros_like(logits_EO)))
        noise_EO = gumbel_noise(tuple(logits_EO.shape), generator, logits_EO)
        return loss(gumbel_softmax(logits_EO, self.temperature, noise_EO))


@dataclass(frozen=True, kw_only=True)
class StraightThrough:
    """loss(one-hot arg max(a + G)), with the gradient of the relaxation at temperature tau: one option runs."""

    temperature: float
    smooth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def expectation(self, loss: ChoiceLoss, logits_EO: Tensor, generator: torch.Generator) -> Tensor:
        noise_EO = gumbel_noise(tuple(logits_EO.shape), generator, logits_EO)
        return loss(straight_through(logits_EO, self.temperature, noise_EO))


@dataclass(frozen=True, kw_only=True)
class ScoreFunction:
    """(1/S) sum_s loss(z_s), with the score-function gradient for the logits: S single paths run.

    Where nothing but the logits receives gradient, the losses build no graph; otherwise S graphs are alive at once.
    """

    num_samples: int
    smooth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_num_samples(self.num_samples)

    def expectation(self, loss: ChoiceLoss, logits_EO: Tensor, generator: torch.Generator) -> Tensor:
        choices_SE = sample_choices(logits_EO, generator, self.num_samples)
        losses_S = torch.stack([loss(path) for path in one_hot_choices(choices_SE, logits_EO)])
        slope_EO = score_function_gradient(logits_EO.detach(), choices_SE, losses_S.detach())
        # Of value exactly 0; it only hands the logits their gradient.
        carrier = ((logits_EO - logits_EO.detach()) * slope_EO).sum()
        return losses_S.mean() + carrier


def score_function_gradient(logits_EO: Tensor, choices_SE: Tensor, losses_S: Tensor) -> Tensor:
    """Return an unbiased estimate [E, O] of d E_z[loss(z)] / d a, from the losses of S >= 2 sampled architectures.

    (1/S) sum_s (l_s - b_s) (z_s - softmax a). Since l_s - b_s = (l_s - mean l) S / (S - 1) and these sum to 0, it is
    sum_s (l_s - mean l) z_s / (S - 1): the softmax drops out, and an option that was never drawn gets exactly 0.

    Args:
        logits_EO: a, for its shape and dtype.
        choices_SE: Options drawn from Cat(softmax a), int64.
        losses_S: Their losses.

    Raises:
        InvalidOptionError: S < 2: a single sample has no other to be compared with.
    """
    num_samples = choices_SE.shape[0]
    _check_num_samples(num_samples)
    advantages_S = (losses_S - losses_S.mean()) / (num_samples - 1)
    return torch.einsum("s,seo->eo", advantages_S.to(logits_EO.dtype), one_hot_choices(choices_SE, logits_EO))


def _check_num_samples(num_samples: int) -> None:
    if num_samples < 2:
        raise InvalidOptionError(
            "too few samples for a leave-one-out baseline", got=num_samples, expected="num_samples >= 2"
        )
