"""The posterior contracts on one dataset: weights and choices in turn, from the prior on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.architecture import Architecture
from search_spaces.supernet import Supernet
from workers.adapt.data import Part, SupportStream, TaskData, at_once
from workers.adapt.limits import Feasible
from workers.adapt.sync import Group
from workers.bayes.estimators import score_function_gradient
from workers.bayes.kl import choice_kl
from workers.bayes.randomness import slot_generator
from workers.bayes.relaxation import sample_choices
from workers.contracts.adaptations import Plan
from workers.contracts.base import Precision
from workers.priors.model import HEAD_NAMES
from workers.tasks.batches import to_batch
from workers.training.precision import passes_in
from workers.training.recipe import step_if_finite

LR_WEIGHTS: Final = 0.02
LR_HEAD: Final = 0.05
LR_CHOICES: Final = 0.05
MOMENTUM: Final = 0.9
CLIP: Final = 5.0
QUERY_BATCH: Final = 256
# The KL of the choices weighs 1 / N_t per nat (lambda_z = 1): inert for thousands of images, felt for dozens.
ARCH_KL: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class TaskPosterior:
    """What the search made of the prior: the supernet's weights in place, and logits of the choices [E, O]."""

    arch_logits: Tensor
    num_steps: int


def contract(
    supernet: Supernet,
    prior_logits_EO: Tensor,
    data: TaskData,
    plan: Plan,
    feasible: Feasible,
    group: Group,
    *,
    on_step: Callable[[int, float, Tensor], bool],
    query_batch: int = QUERY_BATCH,
) -> TaskPosterior:
    """Move the supernet's weights and the option logits to this dataset.

    The weights are a point (`delta`) and take maximum-likelihood steps from the prior's means on: lambda_w = 0, the few
    steps are what keeps them near. The logits descend the expected held-out loss plus their KL from the prior.

    A step on the weights follows one path drawn from the posterior within the limits, on a batch of the support. Every
    `plan.choice_every` steps the logits take a score-function step on held-out images, forward only: choices are judged
    on other data than the weights just saw.

    Args:
        supernet: With the prior's weights and a fitted head; changed in place.
        prior_logits_EO: alpha, where the posterior's logits begin.
        data: The dataset.
        plan: Numbers of steps, batch size, seed.
        feasible: Limits.
        group: Ranks that average their gradients.
        on_step: Told step, loss and logits after each step; returning False ends the search early.
        query_batch: Held-out images of each step on the logits; all of them where there are fewer.
    """
    draws = slot_generator(plan.seed, 0, 0, "paths")
    stream = SupportStream(
        data.support,
        plan.batch_size,
        flip=plan.flip,
        generator=slot_generator(plan.seed, 0, group.rank, "search support"),
    )
    query_draws = slot_generator(plan.seed, 0, group.rank, "search query")
    logits_EO = prior_logits_EO.clone().requires_grad_()
    choice_optimizer = torch.optim.Adam([logits_EO], lr=LR_CHOICES)
    body = [p for name, p in supernet.named_parameters() if name not in HEAD_NAMES]
    head = list(supernet.classifier.parameters())
    optimizer = torch.optim.SGD(
        [{"params": body, "lr": LR_WEIGHTS}, {"params": head, "lr": LR_HEAD}], momentum=MOMENTUM, nesterov=True
    )
    # A supernet's parameters are found by walking thousands of modules: once, not at each step.
    parameters = [*body, *head]
    done = 0
    tilted_EO = feasible.tilt(logits_EO.detach(), draws)
    paths = feasible.paths(tilted_EO, draws)
    for step in range(plan.num_search_steps):
        batch = stream.next(plan.resolution)
        loss = _weights_step(supernet, parameters, next(paths), batch, optimizer, group, plan.precision)
        if (step + 1) % plan.choice_every == 0:
            size = at_once(query_batch, plan.resolution)
            query = _draw_query(data.query, size, plan.resolution, query_draws)
            _choices_step(supernet, logits_EO, tilted_EO, prior_logits_EO, query, plan, choice_optimizer, draws, group)
            tilted_EO = feasible.tilt(logits_EO.detach(), draws)
            paths = feasible.paths(tilted_EO, draws)
        done = step + 1
        if not on_step(done, loss, logits_EO.detach()):
            break
    return TaskPosterior(arch_logits=logits_EO.detach(), num_steps=done)


def path_loss(
    supernet: Supernet, arch: Architecture, images: Tensor, labels: Tensor, precision: Precision = "float32"
) -> Tensor:
    """Return the mean negative log-likelihood of a batch under one path, in nats, by a pass in a precision."""
    with passes_in(precision, images.device):
        logits_NK = supernet(images, arch)
    return F.cross_entropy(logits_NK.float(), labels)


def _weights_step(
    supernet: Supernet,
    parameters: Sequence[Tensor],
    arch: Architecture,
    batch: tuple[Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
    group: Group,
    precision: Precision,
) -> float:
    optimizer.zero_grad(set_to_none=True)
    loss = path_loss(supernet, arch, *batch, precision)
    loss.backward()
    # Which parameters have a gradient follows from the path, which all ranks share.
    reached = [p for p in parameters if p.grad is not None]
    group.average([p.grad for p in reached if p.grad is not None])
    step_if_finite(torch.nn.utils.clip_grad_norm_(reached, CLIP), optimizer)
    return float(loss.detach())


def _draw_query(query: Part, number: int, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    index = torch.randint(len(query), (min(number, len(query)),), generator=generator).to(query.labels.device)
    return to_batch(query.images[index], side), query.labels[index]


def _choices_step(
    supernet: Supernet,
    logits_EO: Tensor,
    tilted_EO: Tensor,
    prior_logits_EO: Tensor,
    query: tuple[Tensor, Tensor],
    plan: Plan,
    optimizer: torch.optim.Optimizer,
    draws: torch.Generator,
    group: Group,
) -> None:
    choices_SE = sample_choices(tilted_EO, draws, plan.num_arch_samples)
    space = supernet.space.name
    with torch.no_grad():
        losses_S = torch.stack(
            [
                path_loss(supernet, Architecture(space, tuple(row)), *query, plan.precision)
                for row in choices_SE.tolist()
            ]
        )
    group.average([losses_S])
    kl = ARCH_KL / plan.num_train * choice_kl(logits_EO, prior_logits_EO)
    (slope_EO,) = torch.autograd.grad(kl, [logits_EO])
    logits_EO.grad = slope_EO + score_function_gradient(tilted_EO, choices_SE, losses_S.to(tilted_EO.device))
    optimizer.step()
