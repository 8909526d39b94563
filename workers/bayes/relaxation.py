"""Random choices as differentiable points on the simplex.

| symbol | meaning | in code |
|---|---|---|
| a | logits of the options; MASKED_LOGIT where a decision has no such option | `logits_EO` |
| G | independent standard Gumbel noise | `noise_EO` |
| tau | temperature, > 0 | `temperature` |
| y | softmax((a + G) / tau), a point on the simplex | `op_weights_EO` |
| E, O | decisions, options | suffix `_EO` |

arg max(a + G) is distributed as Cat(softmax a) (Gumbel-max), and y tends to its one-hot vector as tau -> 0. For
tau > 0 the distribution of y is Concrete, not categorical, so an objective that pairs it with the categorical KL is
no bound on the evidence.

Source: Jang et al. 2017, Maddison et al. 2017; straight-through as in GDAS, Dong and Yang 2019.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.errors import InvalidOptionError


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Return standard Gumbel noise of that shape, of the device and dtype of `like`.

    It is drawn where the generator lives and then moved, so that one seed gives the same noise on every device. It is
    minus the logarithm of an exponential variate, which torch never draws as 0: always finite.
    """
    waiting = torch.empty(shape, dtype=like.dtype, device=generator.device).exponential_(generator=generator)
    return -waiting.log().to(like.device)


def gumbel_softmax(logits_EO: Tensor, temperature: float, noise_EO: Tensor) -> Tensor:
    """Return y = softmax((a + G) / tau) [E, O]; gradient flows to the logits. Zero noise: a plain softmax.

    Raises:
        InvalidOptionError: The temperature is not positive.
    """
    check_temperature(temperature)
    return torch.softmax((logits_EO + noise_EO) / temperature, dim=-1)


def straight_through(logits_EO: Tensor, temperature: float, noise_EO: Tensor) -> Tensor:
    """Return exactly one-hot op weights [E, O] at arg max(a + G), with the gradient of `gumbel_softmax`.

    The gradient is biased: that of a network at y, taken at the one-hot point.

    Raises:
        InvalidOptionError: The temperature is not positive.
    """
    soft_EO = gumbel_softmax(logits_EO, temperature, noise_EO)
    hard_EO = one_hot_choices((logits_EO + noise_EO).argmax(dim=-1), logits_EO)
    # The difference is exactly 0, so that the value stays exactly one-hot and one option can run alone.
    return hard_EO + (soft_EO - soft_EO.detach())


def sample_choices(logits_EO: Tensor, generator: torch.Generator, num_samples: int) -> Tensor:
    """Return options drawn from Cat(softmax a), independent over decisions: int64 [S, E]."""
    noise_SEO = gumbel_noise((num_samples, *logits_EO.shape), generator, logits_EO)
    return (logits_EO.detach() + noise_SEO).argmax(dim=-1)


def one_hot_choices(choices: Tensor, logits_EO: Tensor) -> Tensor:
    """Return choices [..., E] as one-hot op weights [..., E, O] of the logits' dtype."""
    return F.one_hot(choices, logits_EO.shape[-1]).to(logits_EO.dtype)


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not positive.

    Raises:
        InvalidOptionError: It is zero, negative or not a number.
    """
    if not temperature > 0:
        raise InvalidOptionError("bad temperature", got=temperature, expected="> 0")


def entropy_gradient(logits_EO: Tensor) -> Tensor:
    """Return d H_e / d a [E, O] of each decision's entropy H_e = -sum_o p_o log p_o, where p = softmax a.

    It is -p_o (log p_o + H_e): exactly 0 for an option that a decision does not have.
    """
    log_p_EO = torch.log_softmax(logits_EO, dim=-1)
    p_EO = log_p_EO.exp()
    return -p_EO * (log_p_EO - (p_EO * log_p_EO).sum(dim=-1, keepdim=True))
