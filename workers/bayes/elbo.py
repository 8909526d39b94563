"""The objective of one task: negative evidence lower bound, per example.

| symbol | meaning | in code |
|---|---|---|
| phi, W | posterior, prior | `posterior`, `prior` |
| B, N_t | a batch; the number of examples of the task | `batch`, `num_examples` |
| theta | weights: m + exp(r) eps (`gaussian`) or m (`delta`), and the head | - |
| z | choices, given to the likelihood as op weights | `op_weights_EO` |
| lambda_w, lambda_z | weights of the two KLs | `weight_kl`, `arch_kl` |

J(phi; B, W) = -(1/|B|) sum log p(y | x, theta, z) + (lambda_w KL_w + lambda_z KL_z) / N_t

With lambda_w = lambda_z = 1, the `gaussian` family and the score function, J bounds the evidence from above (negated).
A relaxed sample is Concrete while its KL is categorical, and `delta` is MAP: those values are no bounds.

Source: Shaw et al. 2019. Deviation: the two lambdas, which the paper does not have.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces.errors import InvalidOptionError
from workers.bayes.distributions import Batch, Family, Likelihood, MetaPrior, Posterior
from workers.bayes.estimators import Estimator
from workers.bayes.kl import choice_kl, weight_kl


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Which J: the function that inner steps descend, or that judges where they ended.

    Attributes:
        likelihood: Of the supernet.
        estimator: Of the expectation over choices.
        family: Of the weights' posterior.
        weight_kl: lambda_w.
        arch_kl: lambda_z.
    """

    likelihood: Likelihood
    estimator: Estimator
    family: Family
    weight_kl: float
    arch_kl: float

    def __post_init__(self) -> None:
        if self.family not in ("gaussian", "delta"):
            raise InvalidOptionError("unknown family of weights", got=self.family, expected="gaussian or delta")
        for name, value in (("weight_kl", self.weight_kl), ("arch_kl", self.arch_kl)):
            if not 0 <= value < float("inf"):
                raise InvalidOptionError(f"bad {name}", got=value, expected="a finite number >= 0")


def negative_elbo(
    posterior: Posterior,
    prior: MetaPrior,
    batch: Batch,
    objective: Objective,
    *,
    num_examples: int,
    generator: torch.Generator,
) -> Tensor:
    """Return an estimate of J(phi; B, W) in nats per example, from one draw of the weights.

    Gradient flows to the posterior (head included) and to the prior.
    """
    nll = expected_nll(posterior, batch, objective, generator)
    return nll + kl_penalty(posterior, prior, objective, num_examples=num_examples)


def kl_penalty(posterior: Posterior, prior: MetaPrior, objective: Objective, *, num_examples: int) -> Tensor:
    """Return (lambda_w KL_w + lambda_z KL_z) / N_t in nats per example; a KL whose lambda is 0 is not computed."""
    penalty = prior.arch_logits.new_zeros(())
    if objective.weight_kl:
        penalty = penalty + objective.weight_kl / num_examples * weight_kl(posterior, prior, objective.family)
    if objective.arch_kl:
        penalty = penalty + objective.arch_kl / num_examples * choice_kl(posterior.arch_logits, prior.arch_logits)
    return penalty


def expected_nll(posterior: Posterior, batch: Batch, objective: Objective, generator: torch.Generator) -> Tensor:
    """Return an estimate of E_q[-(1/|B|) sum log p(y | x, theta, z)] in nats, from one draw of the weights.

    All sampled architectures of the estimator share that draw.
    """
    theta = {**draw_weights(posterior, objective.family, generator), **posterior.head}

    def loss(op_weights_EO: Tensor) -> Tensor:
        return objective.likelihood(theta, op_weights_EO, batch).mean()

    return objective.estimator.expectation(loss, posterior.arch_logits, generator)


def draw_weights(posterior: Posterior, family: Family, generator: torch.Generator) -> dict[str, Tensor]:
    """Return theta = m + exp(r) eps by name, differentiable in m and r; `delta`: m itself, and nothing is drawn."""
    if family == "delta" or not posterior.loc:
        return dict(posterior.loc)
    names = sorted(posterior.loc)  # the noise must not depend on the order in which tensors were loaded
    locs = [posterior.loc[name] for name in names]
    scales = torch._foreach_exp([posterior.log_scale[name] for name in names])
    # Drawn where the generator lives, then moved: one seed gives the same noise on every device.
    noise = [
        torch.randn(loc.shape, generator=generator, device=generator.device, dtype=loc.dtype).to(loc.device)
        for loc in locs
    ]
    drawn = torch._foreach_add(locs, torch._foreach_mul(noise, scales))
    return dict(zip(names, drawn, strict=True))
