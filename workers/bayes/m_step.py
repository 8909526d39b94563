"""The M-step: the prior that fits the tasks' posteriors best, taken at once instead of by gradient.

| symbol | meaning | in code |
|---|---|---|
| m_t, sigma_t, a_t | posterior of task t: means, scales, logits | - |
| mu, sigma, alpha | the prior, W | `prior` |
| g_t | closed-form gradient of KL_t by W, which a slot of the rule `kl` sends (times lambda / N_t) | `gradients` |
| d | damping: W <- d W + (1 - d) target | `damping` |

Target: mu* = mean m_t, sigma*^2 = mean(sigma_t^2 + (m_t - mu*)^2), softmax alpha* = mean softmax a_t. Everything in it
can be read off the mean of the g_t, so the M-step needs no message of its own:

- g_mu = (mu - mean m) / sigma^2, hence mu* = mu - sigma^2 g_mu;
- g_rho = 1 - mean(sigma_t^2 + (m_t - mu)^2) / sigma^2, hence the second moment about mu, hence that about mu*;
- g_alpha = softmax alpha - mean softmax a, hence softmax alpha*.

It is the minimum of sum_t KL_t by W, all tasks counting alike.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from search_spaces.errors import InvalidOptionError
from workers.bayes.aggregate import aggregate
from workers.bayes.distributions import MASKED_LOGIT, MetaPrior
from workers.bayes.elbo import Objective
from workers.bayes.meta_gradient import MetaGradient


def m_step(prior: MetaPrior, gradients: Sequence[MetaGradient], outer: Objective, *, damping: float = 0.0) -> MetaPrior:
    """Return the prior after one damped M-step over the tasks behind the gradients.

    Args:
        prior: W, the version that all gradients were taken at.
        gradients: From the rule `kl` under `outer`; at least one.
        outer: Their objective. A group whose lambda is 0 sent nothing and stays as it is, and so do the scales of the
            `delta` family, which are fixed.
        damping: d in [0, 1): 0 takes the whole step. Means, variances and probabilities are interpolated.

    Raises:
        InvalidOptionError: The damping is outside [0, 1), or the gradients cannot be aggregated.
    """
    if not 0 <= damping < 1:
        raise InvalidOptionError("bad damping", got=damping, expected="0 <= damping < 1")
    mean = aggregate([_unscaled(gradient, outer) for gradient in gradients], "task").arrays
    arrays = prior.to_arrays()
    if outer.arch_kl:
        arrays["arch_logits"] = _damped_logits(prior.arch_logits, mean["arch_logits"], damping)
    if outer.weight_kl:
        for name, loc in prior.loc.items():
            log_scale = prior.log_scale[name]
            shift = -mean[f"loc/{name}"] * torch.exp(2 * log_scale)
            arrays[f"loc/{name}"] = loc + (1 - damping) * shift
            if outer.family == "gaussian":
                slope = mean[f"log_scale/{name}"]
                arrays[f"log_scale/{name}"] = _damped_log_scale(log_scale, slope, shift, damping)
    return MetaPrior.from_arrays({key: value.detach() for key, value in arrays.items()})


def _unscaled(gradient: MetaGradient, outer: Objective) -> MetaGradient:
    """Return the gradient of the bare KLs, without lambda / N."""
    factors = {"arch_logits": outer.arch_kl, "loc": outer.weight_kl, "log_scale": outer.weight_kl}
    arrays = {}
    for key, value in gradient.arrays.items():
        factor = factors[key.partition("/")[0]]
        arrays[key] = value * (gradient.num_examples / factor) if factor else value
    return replace(gradient, arrays=arrays)


def _damped_log_scale(log_scale: Tensor, slope: Tensor, shift: Tensor, damping: float) -> Tensor:
    variance = torch.exp(2 * log_scale)
    num_shared = shift.numel() / log_scale.numel()
    about_old_mean = variance * (1 - slope / num_shared)
    target = about_old_mean - shift.square().sum_to_size(log_scale.shape) / num_shared
    # A variance in exact arithmetic; rounding may leave less than nothing where the mean moved by many scales.
    target = target.clamp_min(0) + torch.finfo(target.dtype).eps * about_old_mean
    return 0.5 * torch.log(damping * variance + (1 - damping) * target)


def _damped_logits(logits: Tensor, slope: Tensor, damping: float) -> Tensor:
    old = torch.softmax(logits, dim=-1)
    target = (old - slope).clamp_min(torch.finfo(old.dtype).tiny)
    mixed = torch.log(damping * old + (1 - damping) * target)
    return torch.where(logits <= MASKED_LOGIT / 2, logits, mixed)
