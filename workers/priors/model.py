"""A meta-prior as a supernet's weights: from one to the other, and the likelihood that both learn by."""

from collections.abc import Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from search_spaces.architecture import Architecture
from search_spaces.registry import SPACES
from search_spaces.spec import Macro, SearchSpace
from search_spaces.supernet import OpWeights, Supernet, build_supernet
from workers.bayes.distributions import MASKED_LOGIT, Batch, Likelihood, MetaPrior
from workers.contracts.priors import MacroSpec

NONE: Final = "none"

HEAD_WEIGHT = "classifier.weight"
HEAD_BIAS = "classifier.bias"
HEAD_NAMES = (HEAD_WEIGHT, HEAD_BIAS)


def full_macro(spec: MacroSpec, *, num_classes: int, image_size: int) -> Macro:
    """Return the skeleton of a network of `num_classes` for square images of `image_size` pixels."""
    return Macro(
        skeleton=spec.skeleton,
        num_channels=spec.num_channels,
        num_cells=spec.num_cells,
        num_classes=num_classes,
        image_size=image_size,
    )


def uniform_logits(space: SearchSpace) -> Tensor:
    """Return logits [E, O] of the uniform distribution over each decision's options."""
    mask_EO = torch.tensor(space.option_mask)
    return torch.where(mask_EO, 0.0, MASKED_LOGIT)


def possible_options(logits_EO: Tensor) -> Tensor:
    """Return which options [E, O] are not ruled out: those that a decision does not have are, and maybe others."""
    return logits_EO > MASKED_LOGIT / 2


def leaves_open(logits_EO: Tensor, space: SearchSpace, arch: Architecture) -> bool:
    """Return whether no op of an architecture's network is ruled out; absent and dead ones do not count."""
    possible_EO = possible_options(logits_EO).tolist()
    live = enumerate(zip(arch.choices, space.connected(arch).choices, space.decisions, strict=True))
    return all(
        possible_EO[place][option] or option != kept or decision.options[option] == NONE
        for place, (option, kept, decision) in live
    )


def options_of(architectures: Sequence[Architecture]) -> Tensor:
    """Return which options [E, O] one of some architectures has; at least one architecture of a known space."""
    space = SPACES[architectures[0].space]
    choices_AE = torch.tensor([arch.choices for arch in architectures])
    return F.one_hot(choices_AE, space.num_options).any(dim=0)


def ruled_out(logits_EO: Tensor, possible_EO: Tensor) -> Tensor:
    """Return the logits with all options ruled out that are not possible."""
    return torch.where(possible_EO, logits_EO, MASKED_LOGIT)


def doubt(arch_logits_EO: Tensor) -> float:
    """Return the mean over decisions of entropy / log(number of options), 0 (sure) to 1 (uniform)."""
    log_p_EO = torch.log_softmax(arch_logits_EO, dim=-1)
    entropy_E = -(log_p_EO.exp() * log_p_EO).sum(dim=-1)
    num_options_E = possible_options(arch_logits_EO).sum(dim=-1)
    return float((entropy_E / num_options_E.clamp_min(2).log()).mean())


def fresh_prior(space_name: str, macro: Macro, generator: torch.Generator, *, weight_scale: float) -> MetaPrior:
    """Return the prior that knows nothing: freshly drawn weights, uniform choices, one scale for all weights."""
    supernet = build_supernet(space_name, macro, generator=generator)
    loc = {name: p.detach().clone() for name, p in supernet.named_parameters() if name not in HEAD_NAMES}
    log_scale = {name: torch.tensor(weight_scale).log() for name in loc}
    return MetaPrior(arch_logits=uniform_logits(supernet.space), loc=loc, log_scale=log_scale)


def as_choices(op_weights_EO: Tensor, space: SearchSpace) -> OpWeights:
    """Return the architecture that one-hot weights without gradient stand for, which runs faster; else the weights."""
    if op_weights_EO.requires_grad:
        return op_weights_EO
    best_E = op_weights_EO.argmax(dim=-1)
    if torch.equal(op_weights_EO, F.one_hot(best_E, op_weights_EO.shape[-1]).to(op_weights_EO.dtype)):
        return Architecture(space.name, tuple(best_E.tolist()))
    return op_weights_EO


def supernet_likelihood(supernet: Supernet, label_smoothing: float = 0.0) -> Likelihood:
    """Return the negative log-likelihood of a batch under the supernet with weights theta, head included.

    theta holds every parameter of the supernet by name; the head is `classifier.weight` and `classifier.bias`, of as
    many classes as its rows. With label smoothing, that share of each label is spread over all classes alike.
    """

    def likelihood(theta: Mapping[str, Tensor], op_weights_EO: Tensor, batch: Batch) -> Tensor:
        op_weights = as_choices(op_weights_EO, supernet.space)
        logits = functional_call(supernet, dict(theta), (batch.images, op_weights), strict=False)
        loss: Tensor = F.cross_entropy(logits, batch.labels, reduction="none", label_smoothing=label_smoothing)
        return loss

    return likelihood


def prior_features(supernet: Supernet, prior: MetaPrior, images: Tensor, op_weights: OpWeights) -> Tensor:
    """Return features [N, F] of normalized images under the prior's weights; no gradient."""
    with torch.no_grad():
        body = {name.removeprefix("body."): value for name, value in prior.loc.items() if name.startswith("body.")}
        routes = supernet.body.routes(op_weights)
        images = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = functional_call(supernet.body, body, (images, routes))
    return features


def mode_of(prior: MetaPrior, space: SearchSpace) -> Architecture:
    """Return the prior's most likely valid architecture."""
    return space.discretize(torch.log_softmax(prior.arch_logits, dim=-1).tolist())


def body_shapes(space_name: str, macro: Macro) -> dict[str, torch.Size]:
    """Return the shape of every weight of a supernet but its head, by name."""
    with torch.device("meta"):
        supernet = Supernet(SPACES[space_name], macro)
    return {name: p.shape for name, p in supernet.named_parameters() if name not in HEAD_NAMES}
