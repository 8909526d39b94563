"""How well a prior adapts to classes that it never met: its scores on the query after so many inner steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.architecture import Architecture
from workers.bayes.calibration import calibration_error
from workers.bayes.distributions import Batch, MetaPrior, Task, posterior_at
from workers.bayes.elbo import Objective
from workers.bayes.estimators import StraightThrough
from workers.bayes.inner_loop import adapt
from workers.bayes.randomness import slot_generator
from workers.meta.learning.device import features_in, likelihood_in, prior_on
from workers.meta.learning.slot import SlotWork, fit_head, prepare, without_heads
from workers.priors.model import HEAD_BIAS, HEAD_WEIGHT, mode_of, options_of, ruled_out
from workers.tasks.distribution import TaskDistribution

CURVE_STEPS: Final = (0, 4, 16)
NUM_TASKS: Final = 5
SIZES: Final = (512, 500)


@dataclass(frozen=True, kw_only=True)
class QueryScores:
    """Of a task's query.

    Attributes:
        accuracy: Share that is told right.
        nll: Mean negative log-likelihood, in nats.
        calibration_error: Expected calibration error, 0 to 1.
    """

    accuracy: float
    nll: float
    calibration_error: float


def adaptation_curve(work: SlotWork, held_out: TaskDistribution, prior: MetaPrior) -> dict[int, float]:
    """Return mean query accuracy by number of inner steps, over NUM_TASKS fixed tasks of held-out classes."""
    correct = dict.fromkeys(CURVE_STEPS, 0.0)
    for number in range(NUM_TASKS):
        for steps, accuracy in judge(work, held_out, prior, number).items():
            correct[steps] += accuracy / NUM_TASKS
    return correct


def judge(work: SlotWork, held_out: TaskDistribution, prior: MetaPrior, number: int) -> dict[int, float]:
    """Return query accuracy by number of inner steps on one task of held-out classes; see `query_scores`."""
    return {steps: scores.accuracy for steps, scores in query_scores(work, held_out, prior, number).items()}


def query_scores(
    work: SlotWork,
    held_out: TaskDistribution,
    prior: MetaPrior,
    number: int,
    *,
    architecture: Architecture | None = None,
    at_steps: Sequence[int] | None = None,
    sizes: tuple[int, int] | None = None,
) -> dict[int, QueryScores]:
    """Return the scores by number of inner steps on one task of held-out classes.

    The same task and draws for the same number at every call, whoever makes it, so that the points of a run can be
    compared and several workers can share a curve. Batch norm takes the statistics of
    the whole query, as a supernet does: higher than what an exported network, which has those of its support, would
    reach. The curves compare priors, they are no promise.

    Args:
        work: Of the run.
        held_out: Classes that the prior never met.
        prior: With or without persistent heads, which are not used.
        number: Of the task; a curve has those below NUM_TASKS.
        architecture: To judge at; None: the prior's mode.
        at_steps: Numbers of inner steps, rising; None: CURVE_STEPS.
        sizes: Images of the support and of the query; None: SIZES.
    """
    config = work.config
    num_support, num_query = sizes or SIZES
    generator = slot_generator(config.seed, 0, number, "held-out")
    ways = (min(config.min_ways, *held_out.num_classes_by_dataset), min(config.max_ways, held_out.num_classes))
    raw = held_out.sample(generator, num_ways=ways, sizes=(num_support, num_query))
    data = prepare(raw, max(1, num_support // 128), generator, flip=config.flip).on(work.device)
    bare = without_heads(prior_on(prior, work.device))
    judged = options_of([architecture or mode_of(bare, work.supernet.space)])
    sure_EO = ruled_out(torch.zeros_like(bare.arch_logits), judged.to(work.device))
    start = MetaPrior(sure_EO, bare.loc, bare.log_scale)
    head = fit_head(work, start, data, generator)
    return _curve(work, start, head, data.task, at_steps or CURVE_STEPS, generator)


def _curve(
    work: SlotWork,
    prior: MetaPrior,
    head: Mapping[str, Tensor],
    task: Task,
    at_steps: Sequence[int],
    generator: torch.Generator,
) -> dict[int, QueryScores]:
    config = work.config
    objective = Objective(
        likelihood=likelihood_in(config.precision, work.supernet),
        estimator=StraightThrough(temperature=config.temperature),
        family="delta",
        weight_kl=0.0,
        arch_kl=0.0,
    )
    posterior = posterior_at(prior, head)
    curve: dict[int, QueryScores] = {}
    done = 0
    for steps in at_steps:
        # Each part of the curve goes on with the batch that follows: where it is judged changes nothing.
        turn = done % len(task.support)
        posterior = adapt(
            posterior,
            prior,
            [*task.support[turn:], *task.support[:turn]],
            objective,
            num_examples=task.num_examples,
            num_inner_steps=steps - done,
            inner_lr={"loc": config.inner_lr, "head": config.inner_head_lr},
            generator=generator,
        )
        done = steps
        curve[steps] = _scores(
            work, MetaPrior(prior.arch_logits, posterior.loc, prior.log_scale), posterior.head, task.query
        )
    return curve


def _scores(work: SlotWork, at: MetaPrior, head: Mapping[str, Tensor], query: Batch) -> QueryScores:
    features = features_in(work.config.precision, work.supernet, at, query.images, mode_of(at, work.supernet.space))
    logits = features @ head[HEAD_WEIGHT].T + head[HEAD_BIAS]
    return QueryScores(
        accuracy=float((logits.argmax(dim=1) == query.labels).double().mean()),
        nll=float(F.cross_entropy(logits, query.labels)),
        calibration_error=calibration_error(logits, query.labels),
    )
