"""From the card's loss model to predictions and option logits.

| symbol | meaning | in code |
|---|---|---|
| A, E, O | architectures; decisions; options | shape letters |
| f(z; D) | predicted loss of architecture z on dataset D, in units of the noise | `predict` |
| x | live options of z, one-hot | `live_options` |
| alpha(D) | option logits of the prior that has read D | `option_logits` |

p(z | D) is proportional to exp(-f(z; D)): of all distributions it minimizes E[loss] + sigma KL(. || uniform), so that
what a trial cannot tell apart stays open. Its logits are those of the closest independent choices: the least-squares
fit of f by the options alone, over architectures drawn uniformly.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from statistics import fmean
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.architecture import Architecture
from search_spaces.registry import SPACES
from search_spaces.spec import Macro, SearchSpace
from workers.bayes.distributions import MASKED_LOGIT
from workers.bayes.relaxation import sample_choices
from workers.contracts.loss_model import TRAITS, LossModel
from workers.priors.model import ruled_out, uniform_logits
from workers.priors.traits import traits_of

NUM_DRAWN: Final = 1000
NUM_TYPICAL: Final = 100
RIDGE: Final = 1e-3


def predict(
    model: LossModel,
    space: SearchSpace,
    macro: Macro,
    archs: Sequence[Architecture],
    description: Mapping[str, float],
    one_shot: Sequence[float] | None = None,
) -> Tensor:
    """Return the predicted losses [A] of valid architectures, float64; only their differences mean anything.

    Args:
        model: Of a prior's card.
        space: Of the architectures.
        macro: The skeleton.
        archs: At least one.
        description: Of the dataset, by entry.
        one_shot: Losses before training in units of the logarithm of the number of classes; read only by a model that
            has an effect of them.
    """
    predicted_A = live_options(space, archs) @ torch.tensor(model.options, dtype=torch.float64).flatten()
    traits_AR = torch.tensor([traits_of(space, arch, macro) for arch in archs], dtype=torch.float64)
    predicted_A = predicted_A + traits_AR @ torch.tensor(trait_effects(model, description), dtype=torch.float64)
    if model.one_shot is not None and one_shot is not None:
        predicted_A = predicted_A + model.one_shot * torch.tensor(one_shot, dtype=torch.float64)
    return predicted_A


def live_options(space: SearchSpace, archs: Sequence[Architecture]) -> Tensor:
    """Return the options of valid architectures, one-hot [A, E x O], float64; `none` for an op that nothing reads.

    So architectures that differ in dead ops, whose networks are the same, are the same here too.
    """
    return _one_hot(torch.tensor([space.connected(arch).choices for arch in archs]), space).flatten(1)


def trait_effects(model: LossModel, description: Mapping[str, float]) -> list[float]:
    """Return what a unit of each trait adds to the loss on a dataset, in the order of TRAITS."""
    above = {name: description[name] - model.context_mean[name] for name in model.context}
    return [
        model.traits[trait] + sum(model.context[name].get(trait, 0.0) * value for name, value in above.items())
        for trait in TRAITS
    ]


def option_logits(
    model: LossModel,
    space: SearchSpace,
    macro: Macro,
    description: Mapping[str, float] | None = None,
    *,
    possible_EO: Tensor | None = None,
) -> Tensor:
    """Return alpha(D) [E, O], each decision's logits with mean 0 over its possible options, the others ruled out.

    Args:
        model: Of a prior's card.
        space: Of the architectures.
        macro: The skeleton.
        description: Of the dataset, by entry; None: the mean one.
        possible_EO: Options [E, O]; None: all.
    """
    archs = draw_valid(space, NUM_DRAWN, torch.Generator().manual_seed(0), possible_EO)
    known = model.context_mean if description is None else description
    predicted_A = predict(model, space, macro, archs, known)
    options_AP = _one_hot(torch.tensor([arch.choices for arch in archs]), space).flatten(1)
    centered_AP = options_AP - options_AP.mean(dim=0)
    gram_PP = centered_AP.T @ centered_AP + RIDGE * len(archs) * torch.eye(options_AP.shape[1], dtype=torch.float64)
    effects_P = torch.linalg.solve(gram_PP, centered_AP.T @ (predicted_A - predicted_A.mean()))
    mask_EO = torch.tensor(space.option_mask) if possible_EO is None else possible_EO
    logits_EO = torch.where(mask_EO, -effects_P.view(mask_EO.shape), 0.0)
    means_E1 = logits_EO.sum(dim=1, keepdim=True) / mask_EO.sum(dim=1, keepdim=True)
    return torch.where(mask_EO, logits_EO - means_E1, MASKED_LOGIT).float()


def draw_valid(
    space: SearchSpace, number: int, generator: torch.Generator, possible_EO: Tensor | None = None
) -> list[Architecture]:
    """Return so many valid architectures, each possible option as likely as any other; repeats are possible.

    Args:
        space: Of the architectures.
        number: How many.
        generator: Of the draws.
        possible_EO: Options [E, O], with which a valid architecture can be made; None: all.
    """
    logits_EO = uniform_logits(space)
    if possible_EO is not None:
        logits_EO = ruled_out(logits_EO, possible_EO)
    found: list[Architecture] = []
    while len(found) < number:
        rows = sample_choices(logits_EO, generator, number).tolist()
        drawn = (Architecture(space.name, tuple(row)) for row in rows)
        found += [arch for arch in drawn if space.is_valid(arch)]
    return found[:number]


@cache
def typical_macs(space_name: str, macro: Macro) -> int:
    """Return the mean MACs of architectures drawn uniformly, in a skeleton: what a trial's length is measured by."""
    space = SPACES[space_name]
    drawn = draw_valid(space, NUM_TYPICAL, torch.Generator().manual_seed(0))
    return round(fmean(space.cost(arch, macro).macs for arch in drawn))


def _one_hot(choices_AE: Tensor, space: SearchSpace) -> Tensor:
    return F.one_hot(choices_AE, space.num_options).double()
