"""One slot of one meta-step: a task, its posterior, and what it tells the prior, all from (seed, step, slot).

This is what a gradient worker computes; it depends on the published prior and on the three numbers, so it does not
matter who computes it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

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
from workers.bayes.heads import fit_ridge_head
from workers.bayes.meta_gradient import MetaGradient, meta_gradient
from workers.bayes.randomness import slot_generator
from workers.bayes.relaxation import one_hot_choices, sample_choices
from workers.contracts.meta_config import MetaConfig
from workers.priors.model import HEAD_BIAS, HEAD_WEIGHT, as_choices, full_macro, prior_features, supernet_likelihood
from workers.tasks.batches import augment, to_batch
from workers.tasks.distribution import RawTask, TaskDistribution

RIDGE = 1.0


@dataclass(frozen=True, kw_only=True)
class SlotWork:
    """What stays the same from slot to slot: the configuration, the tasks, and a supernet to run them through."""

    config: MetaConfig
    distribution: TaskDistribution
    supernet: Supernet

    @classmethod
    def build(cls, config: MetaConfig, distribution: TaskDistribution) -> "SlotWork":
        """Return the work of a run; the supernet's own weights are never used."""
        macro = full_macro(config.macro, num_classes=distribution.num_classes, image_size=max(config.resolutions))
        supernet = build_supernet(config.search_space, macro, generator=torch.Generator().manual_seed(0))
        return cls(config=config, distribution=distribution, supernet=supernet)


def joint_gradient(
    work: SlotWork, prior_with_heads: MetaPrior, *, step: int, slot: int, num_paths: int
) -> MetaGradient:
    """Return the gradient of a batch of all classes, their persistent heads included, under paths drawn from the prior.

    It is `first_order` at no inner steps with the heads among the prior's means. The option logits learn by the score
    function, which needs at least two paths; with one they get no gradient.
    """
    config = work.config
    generator = slot_generator(config.seed, step, slot, "joint")
    images, class_ids, side = work.distribution.sample_batch(generator, config.joint_batch)
    batch = Batch(images=augment(to_batch(images, side), generator, flip=config.flip), labels=class_ids)
    logits_EO = prior_with_heads.arch_logits
    choices_SE = sample_choices(logits_EO, generator, num_paths)
    theta = {name: value.detach().requires_grad_() for name, value in prior_with_heads.loc.items()}
    likelihood = supernet_likelihood(work.supernet)
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
    if num_paths > 1:
        slope_EO = score_function_gradient(logits_EO, choices_SE, losses_S)
    arrays = {"arch_logits": slope_EO, **{f"loc/{name}": value for name, value in sums.items()}}
    return MetaGradient(
        version=step, slot=slot, num_examples=len(class_ids), arrays=arrays, loss=float(losses_S.mean())
    )


def task_gradient(work: SlotWork, prior: MetaPrior, *, step: int, slot: int) -> MetaGradient:
    """Return the meta-gradient of one sampled task: head fitted, inner steps on the support, judged on the query."""
    config = work.config
    generator = slot_generator(config.seed, step, slot, "task")
    num_batches = max(1, config.num_inner_steps)
    raw = work.distribution.sample(
        generator,
        num_ways=(config.min_ways, config.max_ways),
        sizes=(config.num_support * num_batches, config.num_query),
    )
    task = prepare(raw, num_batches, generator, flip=config.flip)
    head = fit_head(work.supernet, prior, raw, generator)
    likelihood = supernet_likelihood(work.supernet)
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
        head,
        task,
        inner=inner,
        outer=outer,
        num_inner_steps=config.num_inner_steps,
        inner_lr=_inner_rates(config),
        generator=generator,
        version=step,
        slot=slot,
    )


def _inner_rates(config: MetaConfig) -> dict[str, float]:
    rates = {"loc": config.inner_lr, "head": config.inner_head_lr, "arch_logits": config.inner_arch_lr}
    return rates if config.family == "delta" else {**rates, "log_scale": config.inner_scale_lr}


def prepare(raw: RawTask, num_batches: int, generator: torch.Generator, *, flip: bool) -> Task:
    """Return a task's batches: the support cut into `num_batches` and augmented, the query as it is."""
    images = raw.support_images.chunk(num_batches)
    labels = raw.support_labels.chunk(num_batches)
    support = [
        Batch(images=augment(to_batch(part, raw.resolution), generator, flip=flip), labels=its_labels)
        for part, its_labels in zip(images, labels, strict=True)
    ]
    query = Batch(images=to_batch(raw.query_images, raw.resolution), labels=raw.query_labels)
    return Task(support=support, query=query, num_examples=raw.num_examples)


def fit_head(supernet: Supernet, prior: MetaPrior, raw: RawTask, generator: torch.Generator) -> dict[str, Tensor]:
    """Return a head fitted by ridge regression on the support's features under one path drawn from the prior."""
    choices_SE = sample_choices(prior.arch_logits, generator, 1)
    one_hot_EO = torch.nn.functional.one_hot(choices_SE[0], prior.arch_logits.shape[1]).float()
    path = as_choices(one_hot_EO, supernet.space)
    features = prior_features(supernet, prior, to_batch(raw.support_images, raw.resolution), path)
    weight, bias = fit_ridge_head(features, raw.support_labels, raw.num_ways, RIDGE)
    return {HEAD_WEIGHT: weight, HEAD_BIAS: bias}


def make_estimator(config: MetaConfig) -> Estimator:
    """Return the estimator that the configuration names."""
    match config.estimator:
        case "relaxed":
            return Relaxed(temperature=config.temperature)
        case "straight_through":
            return StraightThrough(temperature=config.temperature)
        case "score_function":
            return ScoreFunction(num_samples=config.num_arch_samples)
