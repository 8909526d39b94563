"""From trials to the loss model on a prior's card.

The loss is the 0-1 loss, the share of held-out images that are wrong. Cross-entropy would let a few tasks of few
images, on which a network is sure and wrong, drown all others: in 160 trials it ranked architectures that were left out
the wrong way about, where errors ranked them right.
"""

from collections.abc import Sequence
from itertools import groupby
from statistics import fmean

import torch
from torch import Tensor

from search_spaces.registry import SPACES
from search_spaces.spec import SearchSpace
from workers.bayes.linear_model import LinearFit, Moments, fit
from workers.contracts.errors import InvalidDatasetError
from workers.contracts.loss_model import ENTRIES, TRAITS, LossModel, TrialFindings
from workers.contracts.meta_config import MetaConfig
from workers.meta.trials.trial import Trial
from workers.priors.loss_model import live_options
from workers.priors.model import full_macro
from workers.priors.traits import traits_of


def find(trials: Sequence[Trial], config: MetaConfig) -> TrialFindings:
    """Return what trials teach: a model of the loss in options, traits and description, and one with the one-shot loss.

    A task whose trials did not end with a finite loss, but for one, says nothing.

    Args:
        trials: Of at least one task, in any order.
        config: Of the run; its `trials` are set.

    Raises:
        InvalidDatasetError: No task has two trials with a finite loss.
    """
    if config.trials is None:
        raise InvalidDatasetError("no trials in the configuration")
    ended = [trial for trial in trials if trial.loss is not None]
    ended.sort(key=lambda trial: (trial.task, trial.number))
    tasks = [list(group) for _, group in groupby(ended, key=lambda trial: trial.task)]
    tasks = [group for group in tasks if len(group) > 1]
    if not tasks:
        raise InvalidDatasetError("no trials to learn from", expected="two with a finite loss on one task")
    mean = {name: fmean(group[0].description[name] for group in tasks) for name in ENTRIES}
    seen = [[trial for trial in group if trial.one_shot is not None] for group in tasks]
    seen = [group for group in seen if len(group) > 1]
    return TrialFindings(
        config=config.trials,
        num_trials=sum(map(len, tasks)),
        flip=config.flip,
        chooses=_model(tasks, config, mean, one_shot=False),
        ranks=_model(seen, config, mean, one_shot=True) if seen else None,
    )


def _model(
    tasks: Sequence[Sequence[Trial]], config: MetaConfig, mean: dict[str, float], *, one_shot: bool
) -> LossModel:
    space = SPACES[config.search_space]
    num_options, num_traits = space.num_decisions * space.num_options, len(TRAITS)
    # How the look of the data changes what traits are worth, and how the length of a training does.
    context = [num_traits * (len(ENTRIES) - 1), num_traits]
    blocks = [num_options, num_traits, *context, *([1] if one_shot else [])]
    moments = Moments.total(
        [Moments.of_group(_rows(group, config, space, mean, one_shot=one_shot), _errors(group)) for group in tasks]
    )
    found = fit(moments, blocks) if moments.square > 0 else _nothing(blocks)
    options_Q, traits_Q, look_Q, length_Q, *rest = (found.effects_Q / found.noise).split(blocks)
    return LossModel(
        options=tuple(map(tuple, _centered(options_Q, space).tolist())),
        traits=dict(zip(TRAITS, traits_Q.tolist(), strict=True)),
        context=_context(torch.cat([look_Q, length_Q]), shown=found.ratios[2:4]),
        context_mean=mean,
        one_shot=float(rest[0]) if one_shot else None,
        noise=found.noise,
        log_evidence=found.log_evidence,
    )


def _errors(group: Sequence[Trial]) -> Tensor:
    return torch.tensor([1.0 - trial.accuracy for trial in group], dtype=torch.float64)


def _nothing(blocks: Sequence[int]) -> LinearFit:
    """Return what trials teach that were all equally right: no effects, and a unit that nothing is measured by."""
    return LinearFit(
        effects_Q=torch.zeros(sum(blocks), dtype=torch.float64),
        noise=1.0,
        ratios=(0.0,) * len(blocks),
        log_evidence=0.0,
    )


def _rows(
    group: Sequence[Trial], config: MetaConfig, space: SearchSpace, mean: dict[str, float], *, one_shot: bool
) -> Tensor:
    """Return a row for each trial of a task: options, traits, traits times description, and the one-shot loss."""
    archs = [space.parse(trial.architecture) for trial in group]
    macro = full_macro(config.macro, num_classes=2, image_size=max(config.resolutions))
    options_NP = live_options(space, archs)
    traits_NR = torch.tensor([traits_of(space, arch, macro) for arch in archs], dtype=torch.float64)
    above_C = torch.tensor([group[0].description[name] - mean[name] for name in ENTRIES], dtype=torch.float64)
    context_NQ = torch.einsum("c,nr->ncr", above_C, traits_NR).flatten(1)
    columns = [options_NP, traits_NR, context_NQ]
    if one_shot:
        columns.append(torch.tensor([[trial.one_shot] for trial in group], dtype=torch.float64))
    return torch.cat(columns, dim=1)


def _centered(options_Q: Tensor, space: SearchSpace) -> Tensor:
    """Return the options' effects [E, O] with mean 0 in each decision, which no prediction notices; 0 if masked."""
    mask_EO = torch.tensor(space.option_mask)
    effects_EO = torch.where(mask_EO, options_Q.view(mask_EO.shape), 0.0)
    means_E1 = effects_EO.sum(dim=1, keepdim=True) / mask_EO.sum(dim=1, keepdim=True)
    return torch.where(mask_EO, effects_EO - means_E1, 0.0)


def _context(context_Q: Tensor, shown: Sequence[float]) -> dict[str, dict[str, float]]:
    """Return what changes traits' effects, by entry: of the data's look and of the length, what trials show."""
    look, length = shown
    table = context_Q.view(len(ENTRIES), len(TRAITS)).tolist()
    is_shown = [*[look > 0] * (len(ENTRIES) - 1), length > 0]
    rows = zip(ENTRIES, table, is_shown, strict=True)
    return {name: dict(zip(TRAITS, row, strict=True)) for name, row, is_there in rows if is_there}
