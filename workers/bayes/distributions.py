"""The meta-prior over weights and choices, a task's posterior, and the data that turns one into the other.

| symbol | meaning | in code |
|---|---|---|
| E, O | decisions of the search space; options of the decision that has most | `arch_logits` is [E, O] |
| alpha, a | logits of the options, of the prior and of the posterior | `arch_logits` |
| mu, m | means of the weights | `loc` |
| rho, r | logarithms of the scales of the weights | `log_scale` |
| W, phi | (alpha, mu, rho); (a, m, r) and the task's head | `MetaPrior`, `Posterior` |
| S_t, Q_t, N_t | batches a task learns from, the batch it is judged on, its number of examples | `Task` |

A decision with fewer than O options is padded: its surplus logits are MASKED_LOGIT, for which softmax is exactly 0 in
every precision that holds it, and for which every KL and every gradient of this package is exactly 0 and finite.
A `log_scale` may be smaller than its `loc`, if it broadcasts to it: one scale for a whole tensor has shape [].

Source: Shaw et al., Meta Architecture Search, NeurIPS 2019. Deviation: the classifier's head belongs to the task.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Self

import torch
from torch import Tensor

from search_spaces.errors import InvalidOptionError

MASKED_LOGIT: Final = -1e9

Family = Literal["gaussian", "delta"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Images [B, ...] and their labels [B]; whatever the likelihood understands by them."""

    images: Tensor
    labels: Tensor


Likelihood = Callable[[Mapping[str, Tensor], Tensor, Batch], Tensor]
"""(theta by name, op_weights [E, O], batch) -> negative log-likelihood of each example [B], in nats."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What a task shows: support batches, one query batch, and how many examples it has in all.

    Attributes:
        support: B_0, B_1, ...; inner step l reads batch l modulo their number.
        query: Q_t, disjoint from the support.
        num_examples: N_t; the KL is divided by it.
    """

    support: Sequence[Batch]
    query: Batch
    num_examples: int

    def __post_init__(self) -> None:
        if self.num_examples < 1:
            raise InvalidOptionError("a task without examples", got=self.num_examples, expected="num_examples >= 1")


@dataclass(frozen=True, eq=False)
class MetaPrior:
    """p_W(theta, z) = N(theta; mu, diag exp(2 rho)) prod_e Cat(z_e; softmax alpha_e).

    Attributes:
        arch_logits: alpha [E, O].
        loc: mu by tensor name.
        log_scale: rho by tensor name, each of a shape that broadcasts to that of its `loc`.

    Raises:
        InvalidOptionError: A shape does not fit, or a name is in one mapping only.
    """

    arch_logits: Tensor
    loc: Mapping[str, Tensor]
    log_scale: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        if self.arch_logits.dim() != 2:
            raise InvalidOptionError("misshapen arch_logits", got=tuple(self.arch_logits.shape), expected="[E, O]")
        if odd := self.loc.keys() ^ self.log_scale.keys():
            raise InvalidOptionError("loc and log_scale name different tensors", got=sorted(odd)[:5])
        for name, loc in self.loc.items():
            scale_shape = self.log_scale[name].shape
            if not _broadcasts_to(scale_shape, loc.shape):
                expected = f"a shape that broadcasts to {tuple(loc.shape)}"
                raise InvalidOptionError(f"misshapen log_scale of {name}", got=tuple(scale_shape), expected=expected)

    def to_arrays(self) -> dict[str, Tensor]:
        """Return the tensors of W by `arch_logits`, `loc/NAME`, `log_scale/NAME`."""
        return _to_arrays(self.arch_logits, loc=self.loc, log_scale=self.log_scale)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor]) -> Self:
        """Return the prior that `to_arrays` took apart."""
        groups = _grouped(arrays)
        return cls(arrays["arch_logits"], groups["loc"], groups["log_scale"])

    def detach(self) -> Self:
        """Return the same values, cut from any graph."""
        return self.from_arrays({key: value.detach() for key, value in self.to_arrays().items()})


@dataclass(frozen=True, eq=False)
class Posterior:
    """q_phi(theta, z), of the prior's family, and the task's own head, a point without a prior.

    Shapes and names are those of the prior it began as (`posterior_at`); they are not checked again at every step.

    Attributes:
        arch_logits: a [E, O].
        loc: m by tensor name.
        log_scale: r by tensor name; the `delta` family carries the prior's along without using it.
        head: The head's tensors by name; the likelihood finds them among theta.
    """

    arch_logits: Tensor
    loc: Mapping[str, Tensor]
    log_scale: Mapping[str, Tensor]
    head: Mapping[str, Tensor] = field(default_factory=dict)

    def to_arrays(self) -> dict[str, Tensor]:
        """Return the tensors of phi by `arch_logits`, `loc/NAME`, `log_scale/NAME`, `head/NAME`."""
        return _to_arrays(self.arch_logits, loc=self.loc, log_scale=self.log_scale, head=self.head)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor]) -> Self:
        """Return the posterior that `to_arrays` took apart."""
        groups = _grouped(arrays)
        return cls(arrays["arch_logits"], groups["loc"], groups["log_scale"], groups["head"])


def posterior_at(prior: MetaPrior, head: Mapping[str, Tensor]) -> Posterior:
    """Return phi^0 = W, sharing the prior's tensors, so that gradients of phi^0 are gradients of W.

    Raises:
        InvalidOptionError: The head has a name that the body bears.
    """
    if clash := prior.loc.keys() & head.keys():
        raise InvalidOptionError("head and body share names", got=sorted(clash)[:5])
    return Posterior(prior.arch_logits, prior.loc, prior.log_scale, head)


def _to_arrays(arch_logits: Tensor, **groups: Mapping[str, Tensor]) -> dict[str, Tensor]:
    arrays = {"arch_logits": arch_logits}
    for group, tensors in groups.items():
        arrays.update({f"{group}/{name}": tensor for name, tensor in tensors.items()})
    return arrays


def _grouped(arrays: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {"loc": {}, "log_scale": {}, "head": {}}
    for key, tensor in arrays.items():
        group, slash, name = key.partition("/")
        if slash:
            groups[group][name] = tensor
    return groups


def _broadcasts_to(small: torch.Size, large: torch.Size) -> bool:
    if len(small) > len(large):
        return False
    tail = large[len(large) - len(small) :]
    return all(s in (1, n) for s, n in zip(small, tail, strict=True))
