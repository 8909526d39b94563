"""One trial: an architecture is trained for a moment on a task, as it would be trained in the end, and judged."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import torch

from search_spaces.architecture import Architecture
from search_spaces.network import Network, build_network, inherit
from search_spaces.registry import SPACES
from workers.bayes.distributions import MetaPrior
from workers.bayes.heads import fit_ridge_head
from workers.bayes.randomness import slot_generator
from workers.contracts.base import Contract
from workers.contracts.errors import InvalidDatasetError
from workers.contracts.loss_model import TrialConfig
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.data import MetaData
from workers.priors.loss_model import typical_macs
from workers.priors.model import full_macro, mode_of
from workers.tasks.batches import to_batch
from workers.tasks.class_split import check_ways
from workers.tasks.description import describe
from workers.tasks.distribution import RawTask, TaskDistribution
from workers.training.brief import JUDGE_BATCH, judge, recalibrate_on, train_briefly
from workers.training.cost import steps_in_equal_time

RIDGE: Final = 1.0
HEAD_IMAGES: Final = 1024
CPU: Final = torch.device("cpu")


class Trial(Contract):
    """What a trial found (a line of `trials.jsonl`).

    Attributes:
        task: Number of the task, which decides its classes and images.
        number: Of the architecture among those tried on the task; 0 is the prior's mode if it has one.
        architecture: In the space's string form.
        dataset: Position of the task's dataset among those of the run.
        description: Of the task, by entry.
        num_steps: Training steps that it took.
        one_shot: Held-out loss before training, its head fitted, in units of the logarithm of the number of classes;
            None with fresh weights.
        loss: The same after training; None where it is not finite.
        accuracy: On the held-out images, 0 to 1.
    """

    task: int
    number: int
    architecture: str
    dataset: int
    description: dict[str, float]
    num_steps: int
    one_shot: float | None = None
    loss: float | None = None
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What all trials of a run share.

    Attributes:
        config: Of the run; its `trials` are set.
        trials: Of `config`.
        distribution: Of meta-train tasks.
        prior: After its weights have learned.
        mode: Its most likely architecture, which each task tries first; None where trials begin with fresh weights: a
            run that has those learns no choices.
        device: To train on.
    """

    config: MetaConfig
    trials: TrialConfig
    distribution: TaskDistribution
    prior: MetaPrior
    mode: Architecture | None
    device: torch.device

    @classmethod
    def build(
        cls, config: MetaConfig, trials: TrialConfig, data: MetaData, prior: MetaPrior, device: torch.device = CPU
    ) -> Self:
        """Return what the trials of a run share.

        Args:
            config: Of the run.
            trials: Of `config`.
            data: Of the run; it has classes to learn from.
            prior: Without persistent heads.
            device: To train on.

        Raises:
            InvalidDatasetError: There is nothing to learn from, or too few classes for `min_ways`.
        """
        if data.meta_train is None:
            raise InvalidDatasetError("nothing to try architectures on", expected="classes to learn from")
        resolutions = dict(zip(config.resolutions, config.resolution_weights, strict=True))
        distribution = TaskDistribution(data.meta_train, resolutions, data.dataset_weights)
        check_ways(distribution.num_classes_by_dataset, config.min_ways)
        mode = None if trials.weights == "fresh" else mode_of(prior, SPACES[config.search_space])
        return cls(config=config, trials=trials, distribution=distribution, prior=prior, mode=mode, device=device)


def draw_task(shop: Workshop, task: int) -> RawTask:
    """Return the task of that number; the same at every call."""
    return shop.distribution.sample(
        slot_generator(shop.config.seed, task, 0, "trial task"),
        num_ways=(shop.config.min_ways, shop.config.max_ways),
        sizes=(shop.trials.num_support, shop.trials.num_query),
        num_examples=shop.config.num_examples,
    )


def run_trial(
    shop: Workshop,
    raw: RawTask,
    task: int,
    number: int,
    arch: Architecture,
    *,
    keep_on: Callable[[], bool] = lambda: True,
) -> Trial:
    """Train an architecture on a task for a moment; return how well it does on held-out images.

    All architectures of a task see the same images in the same order.

    Args:
        shop: Of the run.
        raw: From `draw_task`.
        task: Its number.
        number: Of the architecture on it.
        arch: A valid architecture.
        keep_on: Asked before each step; False breaks the training off, and the trial is worth nothing then.
    """
    space = SPACES[shop.config.search_space]
    macro = full_macro(shop.config.macro, num_classes=raw.num_ways, image_size=raw.resolution)
    network = build_network(arch, macro, generator=slot_generator(shop.config.seed, task, number, "trial weights"))
    network.to(shop.device)
    one_shot = None
    if shop.trials.weights == "inherited":
        _inherit(network, shop.prior, raw, shop.device)
        one_shot, _ = judge(network, raw.query_images, raw.query_labels, raw.resolution)
    typical_steps = num_steps = shop.trials.steps_on(task)
    if shop.trials.length == "seconds":
        num_steps = steps_in_equal_time(num_steps, space.cost(arch, macro).macs, typical_macs(space.name, macro))
    train_briefly(
        network,
        raw.support_images,
        raw.support_labels,
        side=raw.resolution,
        num_steps=num_steps,
        batch_size=shop.trials.batch_size,
        flip=shop.config.flip,
        generator=slot_generator(shop.config.seed, task, 0, "trial images"),
        keep_on=keep_on,
    )
    loss, accuracy = judge(network, raw.query_images, raw.query_labels, raw.resolution)
    dataset_ids = shop.distribution.classes.dataset_ids
    return Trial(
        task=task,
        number=number,
        architecture=space.format(arch),
        dataset=dataset_ids[int(raw.class_ids[0])] if dataset_ids else 0,
        description=describe_task(raw, typical_steps),
        num_steps=num_steps,
        one_shot=one_shot if one_shot is not None and math.isfinite(one_shot) else None,
        loss=loss if math.isfinite(loss) else None,
        accuracy=accuracy,
    )


def describe_task(raw: RawTask, num_steps: int) -> dict[str, float]:
    """Return the description of a task on which a network of typical cost takes so many steps, by entry."""
    return describe(
        raw.support_images,
        raw.support_labels,
        num_ways=raw.num_ways,
        num_examples=raw.num_examples,
        resolution=raw.resolution,
        num_steps=num_steps,
    )


def _inherit(network: Network, prior: MetaPrior, raw: RawTask, device: torch.device) -> None:
    """Give a network the prior's weights, statistics of the task, and a head fitted on its features."""
    head = {name: p for name, p in network.named_parameters() if name.startswith("classifier.")}
    inherit(network, {**{name: value.to(device) for name, value in prior.loc.items()}, **head})
    recalibrate_on(network, raw.support_images, raw.resolution)
    images = to_batch(raw.support_images[:HEAD_IMAGES].to(device), raw.resolution)
    labels = raw.support_labels[:HEAD_IMAGES].to(device)
    with torch.no_grad():
        features = torch.cat([network.features(part) for part in images.split(JUDGE_BATCH)])
        weight, bias = fit_ridge_head(features, labels, raw.num_ways, RIDGE)
        network.classifier.weight.copy_(weight)
        network.classifier.bias.copy_(bias)
