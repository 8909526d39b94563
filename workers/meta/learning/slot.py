"""One slot of one meta-step: its data, and what they tell the prior, all from (seed, step, slot).

This is what a gradient worker computes; it depends on the published prior and on the three numbers, so it does not
matter who computes it. Drawing the data needs no prior: it can be done ahead, while the prior is on its way.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.errors import InvalidOptionError
from search_spaces.supernet import Supernet, build_supernet
from workers.bayes.distributions import Batch, MetaPrior, Task
from workers.bayes.elbo import Objective
from workers.bayes.estimators import (
    Estimator,
    Relaxed,
    ScoreFunction,
    StraightThrough,
    score_function_gradient,
)
from workers.bayes.fair_paths import fair_choices
from workers.bayes.heads import fit_ridge_head
from workers.bayes.meta_gradient import MetaGradient, meta_gradient
from workers.bayes.randomness import slot_generator
from workers.bayes.relaxation import one_hot_choices, sample_choices
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.device import batch_on, features_in, likelihood_in, prior_on, task_on
from workers.priors.model import HEAD_BIAS, HEAD_NAMES, HEAD_WEIGHT, as_choices, full_macro, mode_of, possible_options
from workers.tasks.batches import augment, to_batch
from workers.tasks.distribution import RawTask, TaskDistribution

RIDGE: Final = 1.0
CPU: Final = torch.device("cpu")

Part = Literal["warmup", "joint", "task"]


@dataclass(frozen=True, kw_only=True)
class SlotWork:
    """What stays the same from slot to slot: the configuration, the tasks, and a supernet to run them through.

    Attributes:
        config: Of the run.
        distribution: Of the tasks.
        supernet: On `device`; its own weights are never used.
        device: Where gradients are computed; data are drawn on the CPU.
    """

    config: MetaConfig
    distribution: TaskDistribution
    supernet: Supernet
    device: torch.device

    @classmethod
    def build(cls, config: MetaConfig, distribution: TaskDistribution, device: torch.device = CPU) -> Self:
        """Return the work of a run."""
        macro = full_macro(config.macro, num_classes=distribution.num_classes, image_size=max(config.resolutions))
        supernet = build_supernet(config.search_space, macro, generator=torch.Generator().manual_seed(0))
        return cls(config=config, distribution=distribution, supernet=supernet.to(device), device=device)


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskData:
    """A task's images, as its head is fitted on them and as its inner steps and its query read them.

    Attributes:
        plain: The whole support, not augmented.
        task: The support in batches, augmented; the query.
        num_ways: Number of classes.
    """

    plain: Batch
    task: Task
    num_ways: int

    def on(self, device: torch.device) -> "TaskData":
        """Return the same on a device."""
        return replace(self, plain=batch_on(self.plain, device), task=task_on(self.task, device))


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """All data of a slot, on the CPU.

    Attributes:
        step: Of the meta-step.
        slot: Of that step.
        data: A batch of all classes, or a task, by the part that the step belongs to.
        choices: A batch that the option logits alone learn from; None: they learn from `data`.
        random_state: Of the slot's generator after the data: paths and noise go on from there.
    """

    step: int
    slot: int
    data: Batch | TaskData
    choices: Batch | None = None
    random_state: Tensor


def part_of(config: MetaConfig, step: int) -> Part:
    """Return the part of the run that a step belongs to: see `MetaConfig`."""
    if step < config.warmup_steps:
        return "warmup"
    return "joint" if step < config.joint_steps else "task"


def draw(work: SlotWork, *, step: int, slot: int, batch_divisor: int = 1) -> Drawn:
    """Return the data of a slot: sampled, resized, augmented. May run in any thread.

    Args:
        work: Of the run.
        step: Of the meta-step.
        slot: Of that step.
        batch_divisor: Divides the number of images of each batch, for a worker that ran out of memory; never below
            two, nor below one image for each class of a task. Anything but 1 changes the numbers.

    Raises:
        InvalidOptionError: The divisor is less than 1.
        InvalidDatasetError: A dataset has fewer classes than `min_ways`.
    """
    if batch_divisor < 1:
        raise InvalidOptionError("bad batch_divisor", got=batch_divisor, expected=">= 1")
    config = work.config
    part = part_of(config, step)
    data: Batch | TaskData
    choices = None
    if part == "task":
        generator = slot_generator(config.seed, step, slot, "task")
        num_batches = max(1, config.num_inner_steps)
        per_batch = _divided(config.num_support, batch_divisor, -(-config.max_ways // num_batches))
        raw = work.distribution.sample(
            generator,
            num_ways=(config.min_ways, config.max_ways),
            sizes=(per_batch * num_batches, _divided(config.num_query, batch_divisor, config.max_ways)),
            num_examples=config.num_examples,
        )
        data = prepare(raw, num_batches, generator, flip=config.flip)
    else:
        generator = slot_generator(config.seed, step, slot, "joint")
        size = _divided(config.joint_batch, batch_divisor, 2)
        data = _joint_batch(work, generator, size)
        if part == "joint" and config.choice_share:
            choices = _joint_batch(work, generator, size, for_choices=True)
    return Drawn(step=step, slot=slot, data=data, choices=choices, random_state=generator.get_state())


def _joint_batch(work: SlotWork, generator: torch.Generator, size: int, *, for_choices: bool = False) -> Batch:
    config = work.config
    images, class_ids, side = work.distribution.sample_batch(
        generator, size, set_aside=config.choice_share, from_aside=for_choices
    )
    return Batch(images=augment(to_batch(images, side), generator, flip=config.flip), labels=class_ids)


def _divided(size: int, divisor: int, least: int) -> int:
    return max(size // divisor, min(size, max(2, least)))


def prepare(raw: RawTask, num_batches: int, generator: torch.Generator, *, flip: bool) -> TaskData:
    """Return a task's data: the support cut into `num_batches` and augmented, the query as it is."""
    images = raw.support_images.chunk(num_batches)
    labels = raw.support_labels.chunk(num_batches)
    support = [
        Batch(images=augment(to_batch(part, raw.resolution), generator, flip=flip), labels=its_labels)
        for part, its_labels in zip(images, labels, strict=True)
    ]
    return TaskData(
        plain=Batch(images=to_batch(raw.support_images, raw.resolution), labels=raw.support_labels),
        task=Task(
            support=support,
            query=Batch(images=to_batch(raw.query_images, raw.resolution), labels=raw.query_labels),
            num_examples=raw.num_examples,
        ),
        num_ways=raw.num_ways,
    )


def gradient(work: SlotWork, prior_with_heads: MetaPrior, drawn: Drawn) -> MetaGradient:
    """Return what a slot's data tell the prior; its arrays are float32, on the CPU.

    The persistent heads get their gradient as long as they stay; a task fits a head of its own.
    """
    prior = prior_on(prior_with_heads, work.device)
    if isinstance(drawn.data, TaskData):
        found = _task_gradient(work, without_heads(prior), drawn, drawn.data.on(work.device))
    else:
        choices = None if drawn.choices is None else batch_on(drawn.choices, work.device)
        found = _joint_gradient(work, prior, drawn, batch_on(drawn.data, work.device), choices)
    return replace(found, arrays={key: value.cpu() for key, value in found.arrays.items()})


def without_heads(prior: MetaPrior) -> MetaPrior:
    """Return the prior as others get it: without persistent heads, if it has any."""
    loc = {name: value for name, value in prior.loc.items() if name not in HEAD_NAMES}
    return MetaPrior(prior.arch_logits, loc, {name: prior.log_scale[name] for name in loc})


def _joint_gradient(
    work: SlotWork, prior_with_heads: MetaPrior, drawn: Drawn, batch: Batch, for_choices: Batch | None
) -> MetaGradient:
    """Return the gradient of a batch of all classes, their persistent heads included, under paths drawn from the prior.

    It is `first_order` at no inner steps with the heads among the prior's means. The option logits learn by the score
    function, which needs at least two paths: from those of the weights, or, given images of their own, from paths of
    their own, forward only. Where there is neither, as in the warm-up, they get no gradient.
    """
    logits_EO = prior_with_heads.arch_logits
    generator = _generator_of(drawn)
    choices_SE = _paths_of_weights(work, prior_with_heads, drawn, generator)
    num_paths = len(choices_SE)
    theta = {name: value.detach().requires_grad_() for name, value in prior_with_heads.loc.items()}
    likelihood = likelihood_in(work.config.precision, work.supernet, work.config.label_smoothing)
    sums = {name: torch.zeros_like(value) for name, value in theta.items()}
    losses = []
    for path_EO in one_hot_choices(choices_SE, logits_EO):
        loss = likelihood(theta, path_EO, batch).mean()
        found = torch.autograd.grad(loss, list(theta.values()), allow_unused=True)
        for name, value in zip(theta, found, strict=True):
            if value is not None:
                sums[name].add_(value, alpha=1 / num_paths)
        losses.append(loss.detach())
    losses_S = torch.stack(losses)
    slope_EO = torch.zeros_like(logits_EO)
    if for_choices is not None:
        own_SE = sample_choices(logits_EO, generator, work.config.num_arch_samples)
        with torch.no_grad():
            own_S = torch.stack(
                [likelihood(theta, path, for_choices).mean() for path in one_hot_choices(own_SE, logits_EO)]
            )
        slope_EO = score_function_gradient(logits_EO, own_SE, own_S)
    elif num_paths > 1:
        slope_EO = score_function_gradient(logits_EO, choices_SE, losses_S)
    arrays = {"arch_logits": slope_EO, **{f"loc/{name}": value for name, value in sums.items()}}
    return MetaGradient(
        version=drawn.step,
        slot=drawn.slot,
        num_examples=len(batch.labels),
        arrays=arrays,
        loss=float(losses_S.mean()),
    )


def _paths_of_weights(work: SlotWork, prior: MetaPrior, drawn: Drawn, generator: torch.Generator) -> Tensor:
    """Return the architectures that a batch of all classes teaches the weights by: int64 [S, E]."""
    config, logits_EO = work.config, prior.arch_logits
    if part_of(config, drawn.step) == "warmup":
        if config.path_sampling == "fair":
            number = drawn.step * config.num_slots + drawn.slot
            return fair_choices(possible_options(logits_EO), config.seed, number).to(logits_EO.device)
        return sample_choices(logits_EO, generator, 1)
    if config.mode_share and float(torch.rand((), generator=generator)) < config.mode_share:
        return torch.tensor([mode_of(prior, work.supernet.space).choices], device=logits_EO.device)
    # A second path serves the score function only.
    alone = config.choice_share or config.is_of_one or not config.arch_lr
    return sample_choices(logits_EO, generator, 1 if alone else config.num_arch_samples)


def _task_gradient(work: SlotWork, prior: MetaPrior, drawn: Drawn, data: TaskData) -> MetaGradient:
    """Return the meta-gradient of a task: head fitted, inner steps on the support, judged on the query."""
    config = work.config
    generator = _generator_of(drawn)
    likelihood = likelihood_in(work.config.precision, work.supernet)
    # Inner steps move the weights along one sampled path each: a second path would double their cost.
    inner_estimator = make_estimator(config)
    if isinstance(inner_estimator, ScoreFunction):
        inner_estimator = StraightThrough(temperature=config.temperature)
    inner = Objective(
        likelihood=likelihood,
        estimator=inner_estimator,
        family=config.family,
        weight_kl=config.inner_weight_kl,
        arch_kl=config.inner_arch_kl,
    )
    outer = Objective(
        likelihood=likelihood,
        estimator=make_estimator(config),
        family=config.family,
        weight_kl=config.weight_kl,
        arch_kl=config.arch_kl,
    )
    return meta_gradient(
        config.rule,
        prior,
        fit_head(work, prior, data, generator),
        data.task,
        inner=inner,
        outer=outer,
        num_inner_steps=config.num_inner_steps,
        inner_lr=_inner_rates(config),
        generator=generator,
        version=drawn.step,
        slot=drawn.slot,
    )


def _generator_of(drawn: Drawn) -> torch.Generator:
    """Return a generator that goes on where the data ended; on the CPU, so that all devices draw alike."""
    generator = torch.Generator()
    generator.set_state(drawn.random_state)
    return generator


def _inner_rates(config: MetaConfig) -> dict[str, float]:
    rates = {"loc": config.inner_lr, "head": config.inner_head_lr, "arch_logits": config.inner_arch_lr}
    return rates if config.family == "delta" else {**rates, "log_scale": config.inner_scale_lr}


def fit_head(work: SlotWork, prior: MetaPrior, data: TaskData, generator: torch.Generator) -> dict[str, Tensor]:
    """Return a head fitted by ridge regression on the support's features under one path drawn from the prior."""
    choices_SE = sample_choices(prior.arch_logits, generator, 1)
    one_hot_EO = F.one_hot(choices_SE[0], prior.arch_logits.shape[1]).float()
    path = as_choices(one_hot_EO, work.supernet.space)
    features = features_in(work.config.precision, work.supernet, prior, data.plain.images, path)
    weight, bias = fit_ridge_head(features, data.plain.labels, data.num_ways, RIDGE)
    return {HEAD_WEIGHT: weight, HEAD_BIAS: bias}


def make_estimator(config: MetaConfig) -> Estimator:
    """Return the estimator that the configuration names."""
    if (config.is_of_one or not config.arch_lr) and config.rule != "unrolled":
        return StraightThrough(temperature=config.temperature)  # several samples serve the choices alone
    match config.estimator:
        case "relaxed":
            return Relaxed(temperature=config.temperature)
        case "straight_through":
            return StraightThrough(temperature=config.temperature)
        case "score_function":
            return ScoreFunction(num_samples=config.num_arch_samples)
