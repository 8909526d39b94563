"""Gradients of the KLs in closed form, by array name (`arch_logits`, `loc/NAME`, `log_scale/NAME`).

| symbol | meaning | in code |
|---|---|---|
| q, p | posterior phi = (a, m, r), prior W = (alpha, mu, rho) | `q`, `p` |
| sigma_q, sigma | exp(r), exp(rho) | `log_scale` |
| lambda_w / N, lambda_z / N | what multiplies KL_w and KL_z in the objective | `weight_factor`, `arch_factor` |

| by | means | scales | logits (q, p: probabilities) |
|---|---|---|---|
| q | d/dm = (m - mu) / sigma^2 | d/dr = sigma_q^2 / sigma^2 - 1 | d/da = q (log q / p - KL) |
| p | d/dmu = (mu - m) / sigma^2 | d/drho = 1 - (sigma_q^2 + (m - mu)^2) / sigma^2 | d/dalpha = p - q |

Closed forms cost a fraction of what autograd costs on hundreds of small tensors, keep a KL's gradient by q apart
from its gradient by p where phi^0 and W are the same tensors, and can themselves be differentiated. A scale
that many weights share receives the sum over them. A family without scales (`delta`) has no `log_scale` entries. A
factor of 0 leaves its group out.
"""

import torch
from torch import Tensor

from workers.bayes.distributions import Family, MetaPrior, Posterior
from workers.bayes.kl import choice_kl_E


def kl_gradient_by_posterior(
    q: Posterior, p: MetaPrior, family: Family, *, weight_factor: float, arch_factor: float
) -> dict[str, Tensor]:
    """Return d (weight_factor KL_w + arch_factor KL_z) / d phi; the head, which has no prior, is absent."""
    gradient: dict[str, Tensor] = {}
    if arch_factor:
        log_q_EO = torch.log_softmax(q.arch_logits, dim=-1)
        log_ratio_EO = log_q_EO - torch.log_softmax(p.arch_logits, dim=-1)
        excess_EO = log_ratio_EO - choice_kl_E(q.arch_logits, p.arch_logits)[:, None]
        gradient["arch_logits"] = arch_factor * log_q_EO.exp() * excess_EO
    if weight_factor and q.loc:
        names = list(q.loc)
        pull = _pull(q, p, weight_factor, names)
        gradient.update({f"loc/{name}": value for name, value in zip(names, pull, strict=True)})
        if family == "gaussian":
            for name in names:
                growth = weight_factor * torch.expm1(2 * (q.log_scale[name] - p.log_scale[name]))
                num_shared = q.loc[name].numel() / growth.numel()
                gradient[f"log_scale/{name}"] = num_shared * growth.sum_to_size(q.log_scale[name].shape)
    return gradient


def kl_gradient_by_prior(
    q: Posterior, p: MetaPrior, family: Family, *, weight_factor: float, arch_factor: float
) -> dict[str, Tensor]:
    """Return d (weight_factor KL_w + arch_factor KL_z) / d W with phi held fixed: the explicit part."""
    gradient: dict[str, Tensor] = {}
    if arch_factor:
        p_EO, q_EO = torch.softmax(p.arch_logits, dim=-1), torch.softmax(q.arch_logits, dim=-1)
        gradient["arch_logits"] = arch_factor * (p_EO - q_EO)
    if weight_factor and q.loc:
        names = list(q.loc)
        pull = _pull(q, p, weight_factor, names)
        gradient.update({f"loc/{name}": -value for name, value in zip(names, pull, strict=True)})
        if family == "gaussian":
            for name, value in zip(names, pull, strict=True):
                log_scale = p.log_scale[name]
                growth = torch.expm1(2 * (q.log_scale[name] - log_scale))
                # (m - mu)^2 / sigma^2 has the full shape of the weights: the sum counts each of them.
                excess = weight_factor * growth + value * (q.loc[name] - p.loc[name])
                gradient[f"log_scale/{name}"] = -excess.sum_to_size(log_scale.shape)
    return gradient


def _pull(q: Posterior, p: MetaPrior, factor: float, names: list[str]) -> tuple[Tensor, ...]:
    """Return factor (m - mu) / sigma^2 for each name; one call for all tensors, and differentiable."""
    precisions = torch._foreach_exp(torch._foreach_mul([p.log_scale[name] for name in names], -2.0))
    distances = torch._foreach_sub([q.loc[name] for name in names], [p.loc[name] for name in names])
    # The factor goes into the precisions, which are small where a tensor shares its scale.
    return tuple(torch._foreach_mul(distances, torch._foreach_mul(precisions, factor)))
