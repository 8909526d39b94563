"""Gradients of the meta-objective F(W) = mean_t J(phi_t^L(W); Q_t, W), one task at a time.

| symbol | meaning | in code |
|---|---|---|
| W | (alpha, mu, rho) | `prior` |
| phi^L | the task's posterior after L inner steps from W | `adapt(...)` |
| S_t, Q_t, N_t | support, query, number of examples | `task` |
| J of the inner steps, J of F | same family, own lambdas and estimator | `inner`, `outer` |

| rule | gradient | reads Q_t |
|---|---|---|
| `kl` | explicit part only: d J / d W with phi^L held fixed | adapts on it, together with S_t |
| `first_order` | explicit part + grad_phi of the nll at phi^L, d phi^L / d W taken as identity | once |
| `unrolled` | exact, through the inner steps, for smooth estimators with the slot's noise | once |

nll is the mean negative log-likelihood on Q_t. `first_order` does not take grad_phi J: its KL part would cancel the
explicit one for mu and drive the scales up. `kl` is exact where phi^L is stationary for J. Every rule returns all
arrays of W that its family learns (`delta` fixes the scales, so it has no `log_scale`), zero where nothing depends on
them: gradients of different tasks can be averaged.
The head is the task's: it moves in the inner steps and W receives nothing through where it began.

Source: Shaw et al. 2019, section 3; the sum of explicit and implicit part is ours, spelled out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from search_spaces.errors import InvalidOptionError, lookup
from workers.bayes.distributions import Batch, MetaPrior, Posterior, Task, posterior_at
from workers.bayes.elbo import Objective, expected_nll, kl_penalty, negative_elbo
from workers.bayes.inner_loop import InnerLr, adapt
from workers.bayes.kl_gradients import kl_gradient_by_prior


@dataclass(frozen=True, kw_only=True, eq=False)
class MetaGradient:
    """One slot's contribution to a meta-step.

    Attributes:
        version: Of the prior it was taken at.
        slot: Of the meta-step.
        num_examples: N_t.
        arrays: Gradient by array name of the prior (`MetaPrior.to_arrays`), detached, on the prior's device.
        loss: J(phi^L; Q_t, W), in nats per example, whatever the rule.
    """

    version: int
    slot: int
    num_examples: int
    arrays: Mapping[str, Tensor]
    loss: float


def meta_gradient(
    rule: str,
    prior: MetaPrior,
    head: Mapping[str, Tensor],
    task: Task,
    *,
    inner: Objective,
    outer: Objective,
    num_inner_steps: int,
    inner_lr: InnerLr,
    generator: torch.Generator,
    version: int,
    slot: int,
) -> MetaGradient:
    """Return the gradient of J(phi^L(W); Q_t, W) by W, under one of the rules above.

    Args:
        rule: `kl`, `first_order` or `unrolled`.
        prior: W. Receives no autograd gradient; the result is in the return value.
        head: The task's head, fitted beforehand; see `heads.py`.
        task: Its data.
        inner: J of the inner steps.
        outer: J of the meta-objective.
        num_inner_steps: L.
        inner_lr: eta.
        generator: Of all noise, inner steps first: see `slot_generator`.
        version: Handed on.
        slot: Handed on.

    Raises:
        UnknownNameError: No such rule.
        InvalidOptionError: `inner` and `outer` differ in family; or `unrolled` meets an estimator that is not smooth.
    """
    compute = lookup(RULES, rule, kind="meta-gradient rule")
    if inner.family != outer.family:
        raise InvalidOptionError("inner and outer objective differ in family", got=(inner.family, outer.family))
    if rule == "unrolled":
        _check_unrolled(inner, outer)

    def contract(start: MetaPrior, batches: Sequence[Batch], create_graph: bool) -> Posterior:
        return adapt(
            posterior_at(start, head),
            start,
            batches,
            inner,
            num_examples=task.num_examples,
            num_inner_steps=num_inner_steps,
            inner_lr=inner_lr,
            generator=generator,
            create_graph=create_graph,
        )

    found, loss = compute(prior.detach(), task, outer, contract, generator)
    arrays = {key: found.get(key, torch.zeros_like(value)) for key, value in _learned(prior, outer).items()}
    return MetaGradient(version=version, slot=slot, num_examples=task.num_examples, arrays=arrays, loss=loss.item())


_Contract = Callable[[MetaPrior, Sequence[Batch], bool], Posterior]
_Rule = Callable[[MetaPrior, Task, Objective, _Contract, torch.Generator], tuple[dict[str, Tensor], Tensor]]


def _kl(
    prior: MetaPrior, task: Task, outer: Objective, contract: _Contract, generator: torch.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    posterior = contract(prior, (*task.support, task.query), False)
    with torch.no_grad():
        loss = negative_elbo(posterior, prior, task.query, outer, num_examples=task.num_examples, generator=generator)
    return _explicit_part(posterior, prior, task, outer), loss


def _first_order(
    prior: MetaPrior, task: Task, outer: Objective, contract: _Contract, generator: torch.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    adapted = contract(prior, task.support, False)
    arrays = adapted.to_arrays()
    moving = {key: arrays[key].detach().requires_grad_() for key in _learned(prior, outer)}
    with torch.enable_grad():
        nll = expected_nll(Posterior.from_arrays({**arrays, **moving}), task.query, outer, generator)
    gradient = _gradient(nll, moving)
    for key, value in _explicit_part(adapted, prior, task, outer).items():
        gradient[key] = gradient[key] + value if key in gradient else value
    return gradient, nll.detach() + kl_penalty(adapted, prior, outer, num_examples=task.num_examples)


def _unrolled(
    prior: MetaPrior, task: Task, outer: Objective, contract: _Contract, generator: torch.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    moving = {key: value.detach().requires_grad_() for key, value in _learned(prior, outer).items()}
    start = MetaPrior.from_arrays({**prior.to_arrays(), **moving})
    with torch.enable_grad():
        posterior = contract(start, task.support, True)
        loss = negative_elbo(posterior, start, task.query, outer, num_examples=task.num_examples, generator=generator)
    return _gradient(loss, moving), loss.detach()


RULES: Final[Mapping[str, _Rule]] = {"kl": _kl, "first_order": _first_order, "unrolled": _unrolled}


def _explicit_part(posterior: Posterior, prior: MetaPrior, task: Task, outer: Objective) -> dict[str, Tensor]:
    return kl_gradient_by_prior(
        posterior,
        prior,
        outer.family,
        weight_factor=outer.weight_kl / task.num_examples,
        arch_factor=outer.arch_kl / task.num_examples,
    )


def _learned(prior: MetaPrior, outer: Objective) -> dict[str, Tensor]:
    """Return the arrays of W that its family learns: `delta` fixes the scales."""
    arrays = prior.to_arrays()
    return {key: arrays[key] for key in arrays if outer.family == "gaussian" or not key.startswith("log_scale/")}


def _gradient(value: Tensor, by: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return d value / d by, without the tensors that the value does not depend on."""
    found = torch.autograd.grad(value, list(by.values()), allow_unused=True)
    return {key: gradient for key, gradient in zip(by, found, strict=True) if gradient is not None}


def _check_unrolled(inner: Objective, outer: Objective) -> None:
    for name, estimator in (("inner", inner.estimator), ("outer", outer.estimator)):
        if not estimator.smooth:
            raise InvalidOptionError(
                f"the {name} estimator cannot be unrolled",
                got=type(estimator).__name__,
                expected="a smooth one: Relaxed",
                todo="Choose that estimator, or the rule `kl` or `first_order`.",
            )
