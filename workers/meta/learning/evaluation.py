"""How well a prior adapts to classes that it never met: accuracy on the query after so many inner steps."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from search_spaces.spec import SearchSpace
from workers.bayes.distributions import Batch, MetaPrior, Task, posterior_at
from workers.bayes.elbo import Objective
from workers.bayes.estimators import StraightThrough
from workers.bayes.inner_loop import adapt
from workers.bayes.randomness import slot_generator
from workers.meta.learning.device import features_in, likelihood_in, prior_on
from workers.meta.learning.slot import SlotWork, fit_head, prepare, without_heads
from workers.priors.model import HEAD_BIAS, HEAD_WEIGHT, mode_of
from workers.tasks.distribution import TaskDistribution

CURVE_STEPS: Final = (0, 4, 16)
NUM_TASKS: Final = 5
SIZES: Final = (512, 500)


def adaptation_curve(work: SlotWork, held_out: TaskDistribution, prior: MetaPrior) -> dict[int, float]:
    """Return mean query accuracy by number of inner steps, over NUM_TASKS fixed tasks of held-out classes."""
    correct = dict.fromkeys(CURVE_STEPS, 0.0)
    for number in range(NUM_TASKS):
        for steps, accuracy in judge(work, held_out, prior, number).items():
            correct[steps] += accuracy / NUM_TASKS
    return correct


def judge(work: SlotWork, held_out: TaskDistribution, prior: MetaPrior, number: int) -> dict[int, float]:
    """Return query accuracy by number of inner steps on one task of held-out classes.

    The same task and draws for the same number at every call, whoever makes it, so that the points of a run can be
    compared and several workers can share a curve. Architecture: the prior's mode. Batch norm takes the statistics of
    the whole query, as a supernet does: higher than what an exported network, which has those of its support, would
    reach. The curves compare priors, they are no promise.

    Args:
        work: Of the run.
        held_out: Classes that the prior never met.
        prior: With or without persistent heads, which are not used.
        number: Of the task; a curve has those below NUM_TASKS.
    """
    config = work.config
    generator = slot_generator(config.seed, 0, number, "held-out")
    ways = (min(config.min_ways, *held_out.num_classes_by_dataset), min(config.max_ways, held_out.num_classes))
    raw = held_out.sample(generator, num_ways=ways, sizes=SIZES)
    data = prepare(raw, max(1, SIZES[0] // 128), generator, flip=config.flip).on(work.device)
    at_mode = _at_mode(without_heads(prior_on(prior, work.device)), work.supernet.space)
    head = fit_head(work, at_mode, data, generator)
    return _curve(work, at_mode, head, data.task, generator)


def _at_mode(prior: MetaPrior, space: SearchSpace) -> MetaPrior:
    """Return the prior's mode and nothing else: logits so far apart that every draw is the mode."""
    mode = mode_of(prior, space)
    sure_EO = torch.full_like(prior.arch_logits, -1e9)
    sure_EO[torch.arange(len(mode.choices)), torch.tensor(mode.choices)] = 0.0
    return MetaPrior(sure_EO, prior.loc, prior.log_scale)


def _curve(
    work: SlotWork, prior: MetaPrior, head: Mapping[str, Tensor], task: Task, generator: torch.Generator
) -> dict[int, float]:
    config = work.config
    objective = Objective(
        likelihood=likelihood_in(config.precision, work.supernet),
        estimator=StraightThrough(temperature=config.temperature),
        family="delta",
        weight_kl=0.0,
        arch_kl=0.0,
    )
    posterior = posterior_at(prior, head)
    curve: dict[int, float] = {}
    done = 0
    for steps in CURVE_STEPS:
        posterior = adapt(
            posterior,
            prior,
            task.support,
            objective,
            num_examples=task.num_examples,
            num_inner_steps=steps - done,
            inner_lr={"loc": config.inner_lr, "head": config.inner_head_lr},
            generator=generator,
        )
        done = steps
        curve[steps] = _accuracy(
            work, MetaPrior(prior.arch_logits, posterior.loc, prior.log_scale), posterior.head, task.query
        )
    return curve


def _accuracy(work: SlotWork, at: MetaPrior, head: Mapping[str, Tensor], query: Batch) -> float:
    features = features_in(work.config.precision, work.supernet, at, query.images, mode_of(at, work.supernet.space))
    logits = features @ head[HEAD_WEIGHT].T + head[HEAD_BIAS]
    return float((logits.argmax(dim=1) == query.labels).double().mean())
