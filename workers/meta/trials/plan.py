"""What to try: which trials, and which architectures on a task. The same whoever makes them, and in whatever order."""

from collections.abc import Container, Hashable, Iterable, Mapping
from typing import Final

import torch

from search_spaces.architecture import Architecture
from search_spaces.registry import SPACES
from workers.bayes.randomness import slot_generator
from workers.contracts.loss_model import LossModel, TrialConfig
from workers.contracts.meta_config import MetaConfig
from workers.meta.trials.findings import find
from workers.meta.trials.trial import Trial, Workshop, describe_task
from workers.priors.loss_model import draw_valid, predict
from workers.priors.model import full_macro, possible_options
from workers.tasks.distribution import RawTask

Place = tuple[int, int]
"""Of a trial: its task, and its architecture's number on it."""
# Drawn for each place among the second half's architectures, weighed by what the first half predicts.
DRAWN_PER_PLACE: Final = 50


def first_half(trials: TrialConfig) -> range:
    """Return the tasks whose architectures are drawn uniformly: the later ones follow from what these show."""
    return range(trials.num_tasks // 2)


def second_half(trials: TrialConfig) -> range:
    """Return the tasks that try what the first half says is good."""
    return range(trials.num_tasks // 2, trials.num_tasks)


def missing(trials: TrialConfig, tasks: Iterable[int], done: Container[Place]) -> list[Place]:
    """Return the trials of some tasks that are not done, in order."""
    places = ((task, number) for task in tasks for number in range(trials.num_archs))
    return [place for place in places if place not in done]


def taught(config: MetaConfig, trials: TrialConfig, done: Mapping[Place, Trial]) -> LossModel:
    """Return what the first half teaches: the model that chooses the second half's architectures.

    Args:
        config: Of the run.
        trials: Of `config`.
        done: All trials of the first half, and maybe others, which do not count.

    Raises:
        InvalidDatasetError: No task of it has two trials with a finite loss.
    """
    return find([trial for trial in done.values() if trial.task in first_half(trials)], config).chooses


def architectures(shop: Workshop, raw: RawTask, task: int, known: LossModel | None) -> list[Architecture]:
    """Return the architectures to try on a task: the prior's mode if it has one, and drawn ones.

    Their networks are different where that is possible.

    Args:
        shop: Of the run.
        raw: The task.
        task: Its number.
        known: What the first half has taught; None: architectures are drawn uniformly.
    """
    space = SPACES[shop.config.search_space]
    generator = slot_generator(shop.config.seed, task, 0, "trial architectures")
    number = shop.trials.num_archs
    drawn = draw_valid(space, DRAWN_PER_PLACE * (number - 1), generator, possible_options(shop.prior.arch_logits))
    networks: dict[Hashable, Architecture] = {}
    for arch in ([] if shop.mode is None else [shop.mode]) + drawn:
        networks.setdefault(space.signature(arch), arch)
    different = [arch for arch in networks.values() if arch != shop.mode] or drawn
    if known is not None:
        macro = full_macro(shop.config.macro, num_classes=raw.num_ways, image_size=raw.resolution)
        predicted_A = predict(known, space, macro, different, describe_task(raw, shop.trials.steps_on(task)))
        chances_A = torch.softmax(-predicted_A, dim=0)
        order = torch.multinomial(chances_A, len(different), generator=generator)
        different = [different[place] for place in order.tolist()]
    *tried, last = (different[place % len(different)] for place in range(number))
    return [last if shop.mode is None else shop.mode, *tried]
