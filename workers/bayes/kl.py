"""How far a posterior is from the prior, in nats: closed forms.

| symbol | meaning | in code |
|---|---|---|
| q, p | posterior phi = (a, m, r), prior W = (alpha, mu, rho) | `posterior`, `prior` |
| sigma_q, sigma | exp(r), exp(rho) | `log_scale` |
| E, O | decisions, options | [E, O] |
| KL_w, KL_z | of the weights, of the choices | `weight_kl`, `choice_kl` |

Every weight counts, whatever the shape of its scale: a scale shared by n weights enters n times.
"""

import torch
from torch import Tensor

from workers.bayes.distributions import Family, MetaPrior, Posterior


def kl_divergence(q: Posterior, p: MetaPrior, family: Family) -> tuple[Tensor, Tensor]:
    """Return (KL_w, KL_z) in nats, scalars that are differentiable in q and p."""
    return weight_kl(q, p, family), choice_kl(q.arch_logits, p.arch_logits)


def weight_kl(q: Posterior, p: MetaPrior, family: Family) -> Tensor:
    """Return KL_w in nats: `gaussian_kl`, or `delta_penalty` where q is a point mass."""
    return gaussian_kl(q, p) if family == "gaussian" else delta_penalty(q, p)


def gaussian_kl(q: Posterior, p: MetaPrior) -> Tensor:
    """Return KL(N(m, sigma_q^2) || N(mu, sigma^2)), summed over all weights, in nats.

    sum rho - r + (sigma_q^2 / sigma^2 + (m - mu)^2 / sigma^2 - 1) / 2. Ratios are taken as exp of differences of
    logarithms, which neither overflows nor loses the difference of two nearly equal scales.
    """
    total = p.arch_logits.new_zeros(())
    for name, loc in q.loc.items():
        log_ratio = q.log_scale[name] - p.log_scale[name]
        distance = (loc - p.loc[name]) * torch.exp(-p.log_scale[name])
        # `distance` has the full shape of the weights, so the sum counts each of them.
        total = total + (0.5 * (torch.expm1(2 * log_ratio) + distance.square()) - log_ratio).sum()
    return total


def delta_penalty(q: Posterior, p: MetaPrior) -> Tensor:
    """Return sum (m - mu)^2 / (2 sigma^2): -log N(m; mu, sigma^2) without its constant, in nats.

    It stands where the KL of a point mass, which is infinite, cannot: the objective is then MAP, no bound.
    """
    total = p.arch_logits.new_zeros(())
    for name, loc in q.loc.items():
        total = total + 0.5 * ((loc - p.loc[name]) * torch.exp(-p.log_scale[name])).square().sum()
    return total


def choice_kl(q_logits_EO: Tensor, p_logits_EO: Tensor) -> Tensor:
    """Return sum_e KL(Cat(softmax a_e) || Cat(softmax alpha_e)) in nats.

    An option masked on both sides adds exactly 0: its probability is 0 and its log-ratio is finite.
    """
    return choice_kl_E(q_logits_EO, p_logits_EO).sum()


def choice_kl_E(q_logits_EO: Tensor, p_logits_EO: Tensor) -> Tensor:
    """Return the KL of each decision [E], in nats."""
    log_q_EO = torch.log_softmax(q_logits_EO, dim=-1)
    log_p_EO = torch.log_softmax(p_logits_EO, dim=-1)
    return (log_q_EO.exp() * (log_q_EO - log_p_EO)).sum(dim=-1)
