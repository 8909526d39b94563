"""From the gradients of many tasks to the one that moves the prior.

| symbol | meaning | in code |
|---|---|---|
| g_i, N_i | gradient of slot i; examples of its task | `MetaGradient` |
| w_i | its weight: 1 (`task`) or N_i (`examples`: the joint ELBO of all data) | `weighting` |
| g | sum w_i g_i / sum w_i | `aggregate` |
| alpha, mu, rho | groups of arrays, clipped apart: 1 / sigma^2 would swamp alpha | `clip_per_group` |

The sum is taken in slot order, whatever the order of arrival: floating-point addition is not associative, and one
worker must give the same bits as eight.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from search_spaces.errors import InvalidOptionError
from workers.bayes.meta_gradient import MetaGradient

Weighting = Literal["task", "examples"]


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanGradient:
    """A weighted mean of meta-gradients.

    Attributes:
        arrays: By array name of the prior.
        loss: Mean of the losses under the same weights, in nats per example.
        num_slots: How many gradients it is the mean of.
        num_examples: Examples of their tasks, summed.
    """

    arrays: Mapping[str, Tensor]
    loss: float
    num_slots: int
    num_examples: int


def is_finite(gradient: MetaGradient) -> bool:
    """Return whether the loss, every entry and the gradient's norm are finite. The caller drops and counts the others.

    A norm may overflow where no entry does, and clipping by it would leave nothing.
    """
    if not isfinite(gradient.loss):
        return False
    norms = [torch.linalg.vector_norm(value) for value in gradient.arrays.values()]
    return bool(torch.isfinite(torch.stack(norms).norm()))


def aggregate(gradients: Sequence[MetaGradient], weighting: Weighting = "task") -> MeanGradient:
    """Return the weighted mean, summed in order of (version, slot): the same bits for every order of arrival.

    Args:
        gradients: At least one, all with the same arrays, all finite.
        weighting: `task`: every slot counts alike; `examples`: by its task's number of examples.

    Raises:
        InvalidOptionError: There are none, a slot comes twice, arrays differ, one is not finite, or the weighting is
            unknown.
    """
    if weighting not in ("task", "examples"):
        raise InvalidOptionError("unknown weighting", got=weighting, expected="task or examples")
    ordered = _in_slot_order(gradients)
    weights = [1.0 if weighting == "task" else float(gradient.num_examples) for gradient in ordered]
    shares = [weight / sum(weights) for weight in weights]
    arrays = {key: _weighted_sum([gradient.arrays[key] for gradient in ordered], shares) for key in ordered[0].arrays}
    loss = sum(share * gradient.loss for share, gradient in zip(shares, ordered, strict=True))
    # Of the mean alone: whatever is not finite stays so in a sum, and checking each takes longer than adding it.
    if not (isfinite(loss) and _all_finite(arrays)):
        odd = [gradient.slot for gradient in ordered if not is_finite(gradient)]
        got = f"slot {odd[0]}" if odd else "their mean"
        todo = "Drop and count it before aggregating: see is_finite."
        raise InvalidOptionError("a gradient is not finite", got=got, todo=todo)
    num_examples = sum(gradient.num_examples for gradient in ordered)
    return MeanGradient(arrays=arrays, loss=loss, num_slots=len(ordered), num_examples=num_examples)


def down_weight(gradient: MetaGradient, *, version: int, discount: float) -> MetaGradient:
    """Return the gradient times discount^staleness, staleness being `version` less the version it was taken at.

    Its share of the mean stays what it was, so that a stale step is also a smaller one.

    Raises:
        InvalidOptionError: The discount is outside (0, 1], or the gradient is of a later version.
    """
    staleness = version - gradient.version
    if staleness < 0 or not 0 < discount <= 1:
        expected = "staleness >= 0 and 0 < discount <= 1"
        raise InvalidOptionError("cannot down-weight", got=(staleness, discount), expected=expected)
    factor = discount**staleness
    return replace(gradient, arrays={key: factor * value for key, value in gradient.arrays.items()})


def clip_per_group(
    arrays: Mapping[str, Tensor], max_norm: Mapping[str, float]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the arrays with each group's Euclidean norm held to its bound, and each group's norm before that.

    Args:
        arrays: By array name; the group is what stands before the slash: `arch_logits`, `loc`, `log_scale`, ...
        max_norm: Bound by group; a group without one is not clipped.

    Raises:
        InvalidOptionError: A bound is not positive, or its group has no arrays.
    """
    groups: dict[str, list[str]] = {}
    for key in arrays:
        groups.setdefault(key.partition("/")[0], []).append(key)
    if unknown := max_norm.keys() - groups.keys():
        expected = ", ".join(sorted(groups))
        raise InvalidOptionError("a bound for no group", got=sorted(unknown), expected=expected)
    clipped, norms = dict(arrays), {}
    for group, keys in groups.items():
        norm = torch.stack([torch.linalg.vector_norm(arrays[key]) for key in keys]).norm()
        norms[group] = norm.item()
        bound = max_norm.get(group, float("inf"))
        if not bound > 0:
            raise InvalidOptionError(f"bad max_norm of {group}", got=bound, expected="> 0")
        if norms[group] > bound:
            clipped.update({key: arrays[key] * (bound / norm) for key in keys})
    return clipped, norms


def _in_slot_order(gradients: Sequence[MetaGradient]) -> list[MetaGradient]:
    if not gradients:
        raise InvalidOptionError("nothing to aggregate", expected="at least one gradient")
    ordered = sorted(gradients, key=lambda gradient: (gradient.version, gradient.slot))
    slots = [(gradient.version, gradient.slot) for gradient in ordered]
    if len(set(slots)) < len(slots):
        raise InvalidOptionError("a slot was given twice", got=slots)
    for gradient in ordered:
        if gradient.arrays.keys() != ordered[0].arrays.keys():
            odd = sorted(gradient.arrays.keys() ^ ordered[0].arrays.keys())[:5]
            raise InvalidOptionError(f"slot {gradient.slot} has other arrays", got=odd)
    return ordered


def _weighted_sum(values: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    total = shares[0] * values[0]
    part = torch.empty_like(total)
    for value, share in zip(values[1:], shares[1:], strict=True):
        total += torch.mul(value, share, out=part)  # rounded before it is added, on every machine
    return total


def _all_finite(arrays: Mapping[str, Tensor]) -> bool:
    # All at once: there are hundreds of small ones.
    return bool(torch.isfinite(torch.cat([value.flatten() for value in arrays.values()])).all())
