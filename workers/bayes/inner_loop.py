"""Optimization embedding: a task's posterior is what L gradient steps make of the prior.

| symbol | meaning | in code |
|---|---|---|
| phi^0 = W | where it begins | `posterior_at(prior, head)` |
| phi^{l+1} = phi^l - eta grad_phi J(phi^l; B_l, W) | one step | `inner_step` |
| L, eta | number of steps; rate, for all tensors, a group or a tensor | `num_inner_steps`, `inner_lr` |
| J | negative ELBO per example | `objective` |

The likelihood's gradient comes from autograd, the KL's from its closed form. A tensor that the likelihood did not use
(another option ran) and that no KL holds stays the very same tensor.

Source: Shaw et al. 2019, section 3; Dai et al. 2018. Deviation: plain SGD with a rate for each tensor.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from search_spaces.errors import InvalidOptionError
from workers.bayes.distributions import Batch, MetaPrior, Posterior
from workers.bayes.elbo import Objective, expected_nll
from workers.bayes.kl_gradients import kl_gradient_by_posterior
from workers.bayes.recomputation import recomputed

InnerLr = float | Mapping[str, float]
"""One rate for all tensors, or rates by tensor (`loc/NAME`) or by group (`arch_logits`, `loc`, `log_scale`, `head`).
A tensor's own rate comes before its group's; a tensor without any is held fixed, and no gradient is computed for it."""


def adapt(
    posterior: Posterior,
    prior: MetaPrior,
    batches: Sequence[Batch],
    objective: Objective,
    *,
    num_examples: int,
    num_inner_steps: int,
    inner_lr: InnerLr,
    generator: torch.Generator,
    create_graph: bool = False,
) -> Posterior:
    """Return phi^L, the posterior after L inner steps.

    Args:
        posterior: phi^0; usually `posterior_at(prior, head)`.
        prior: W.
        batches: Step l reads batch l modulo their number.
        objective: J; its family says which tensors there are to move.
        num_examples: N_t.
        num_inner_steps: L; with 0 the posterior comes back as it is.
        inner_lr: eta.
        generator: Of the noise, drawn step after step.
        create_graph: Whether phi^L can be differentiated, once, by phi^0 and W. Each step is taken a second time on
            the way back (`recomputation.py`), so that memory grows by a copy of phi for every step, not by its graph.

    Raises:
        InvalidOptionError: L is negative, there are no batches to step on, or a rate is bad or names nothing.
    """
    if num_inner_steps < 0 or (num_inner_steps and not batches):
        expected = ">= 0, and at least one batch to step on"
        raise InvalidOptionError("bad num_inner_steps", got=num_inner_steps, expected=expected)
    rates = resolve_rates(posterior, objective, inner_lr)
    arrays = posterior.to_arrays()
    if not rates:
        return posterior
    take = _recomputed_step if create_graph else _step
    for step in range(num_inner_steps):
        arrays = take(arrays, prior, batches[step % len(batches)], objective, num_examples, rates, generator)
    return Posterior.from_arrays(arrays)


def inner_step(
    posterior: Posterior,
    prior: MetaPrior,
    batch: Batch,
    objective: Objective,
    *,
    num_examples: int,
    inner_lr: InnerLr,
    generator: torch.Generator,
    create_graph: bool = False,
) -> Posterior:
    """Return phi - eta grad_phi J(phi; B, W): one step of `adapt`, for callers that alternate batches and groups."""
    return adapt(
        posterior,
        prior,
        [batch],
        objective,
        num_examples=num_examples,
        num_inner_steps=1,
        inner_lr=inner_lr,
        generator=generator,
        create_graph=create_graph,
    )


def resolve_rates(posterior: Posterior, objective: Objective, inner_lr: InnerLr) -> dict[str, float]:
    """Return the rate of each array that moves, by key. The scales of the `delta` family never do.

    Raises:
        InvalidOptionError: A rate is negative or not finite, or its key names no array that can move.
    """
    keys = [k for k in posterior.to_arrays() if objective.family == "gaussian" or not k.startswith("log_scale/")]
    by_key = inner_lr if isinstance(inner_lr, Mapping) else dict.fromkeys(keys, inner_lr)
    for key, rate in by_key.items():
        if not 0 <= rate < float("inf"):
            raise InvalidOptionError(f"bad inner_lr of {key}", got=rate, expected="a finite number >= 0")
    groups = {key: key.partition("/")[0] for key in keys}
    if unknown := by_key.keys() - groups.keys() - set(groups.values()):
        expected = f"arrays or groups that move: {', '.join(sorted(set(groups.values())))}"
        raise InvalidOptionError("inner_lr names nothing", got=sorted(unknown)[:5], expected=expected)
    rates = {key: by_key.get(key, by_key.get(group, 0.0)) for key, group in groups.items()}
    return {key: rate for key, rate in rates.items() if rate > 0}


def _recomputed_step(
    arrays: dict[str, Tensor],
    prior: MetaPrior,
    batch: Batch,
    objective: Objective,
    num_examples: int,
    rates: dict[str, float],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Return what `_step` does, as one node of the graph: phi^l and W go in, what moves comes out."""
    of_prior = prior.to_arrays()
    keys, keys_of_prior = list(arrays), list(of_prior)

    def step(inputs: Sequence[Tensor], generator: torch.Generator, create_graph: bool) -> list[Tensor]:
        phi = dict(zip(keys, inputs[: len(keys)], strict=True))
        start = MetaPrior.from_arrays(dict(zip(keys_of_prior, inputs[len(keys) :], strict=True)))
        moved = _step(phi, start, batch, objective, num_examples, rates, generator, create_graph=create_graph)
        return [moved[key] for key in rates]

    moved = recomputed(step, [*arrays.values(), *of_prior.values()], generator)
    return {**arrays, **dict(zip(rates, moved, strict=True))}


def _step(
    arrays: dict[str, Tensor],
    prior: MetaPrior,
    batch: Batch,
    objective: Objective,
    num_examples: int,
    rates: dict[str, float],
    generator: torch.Generator,
    *,
    create_graph: bool = False,
) -> dict[str, Tensor]:
    moving = {key: _differentiable(arrays[key], keep_graph=create_graph) for key in rates}
    arrays = {**arrays, **moving}
    posterior = Posterior.from_arrays(arrays)
    with torch.enable_grad():
        nll = expected_nll(posterior, batch, objective, generator)
    found = torch.autograd.grad(nll, list(moving.values()), create_graph=create_graph, allow_unused=True)
    nll_gradient = {key: value for key, value in zip(moving, found, strict=True) if value is not None}
    with torch.set_grad_enabled(create_graph):
        kl_gradient = kl_gradient_by_posterior(
            posterior,
            prior,
            objective.family,
            weight_factor=objective.weight_kl / num_examples,
            arch_factor=objective.arch_kl / num_examples,
        )
        arrays = _descend(arrays, nll_gradient, rates)
        arrays = _descend(arrays, {key: kl_gradient[key] for key in rates if key in kl_gradient}, rates)
    if create_graph:
        return arrays
    return {**arrays, **{key: arrays[key].detach() for key in rates}}


def _descend(arrays: dict[str, Tensor], gradient: dict[str, Tensor], rates: dict[str, float]) -> dict[str, Tensor]:
    if not gradient:
        return arrays
    steps = torch._foreach_mul(list(gradient.values()), [rates[key] for key in gradient])
    moved = torch._foreach_sub([arrays[key] for key in gradient], steps)
    return {**arrays, **dict(zip(gradient, moved, strict=True))}


def _differentiable(tensor: Tensor, *, keep_graph: bool) -> Tensor:
    """Return the tensor itself where its history is to be kept, else a leaf with its values."""
    if keep_graph and tensor.requires_grad:
        return tensor
    return tensor.detach().requires_grad_()
