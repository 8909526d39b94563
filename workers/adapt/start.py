"""Where an adaptation begins: the supernet with the prior's weights, a fitted head, and how fast things go here."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from search_spaces.architecture import Architecture
from search_spaces.network import build_network
from search_spaces.spec import Macro
from search_spaces.supernet import Supernet, build_supernet
from workers.adapt.choice import CHOICE_IMAGES
from workers.adapt.data import Part, TaskData, at_once
from workers.adapt.plan import CALIBRATION_IMAGES, Speed, export_seconds
from workers.adapt.search import QUERY_BATCH, path_loss
from workers.bayes.distributions import MetaPrior
from workers.bayes.heads import fit_ridge_head
from workers.bayes.randomness import slot_generator
from workers.contracts.base import Precision
from workers.priors.model import HEAD_NAMES
from workers.tasks.batches import to_batch
from workers.training.precision import faster_precision, wait_for

HEAD_IMAGES: Final = 1000
FLIP_IMAGES: Final = 500
# Of fewer it cannot be told whether mirroring is harmless.
LEAST_FLIP_IMAGES: Final = 50
# Of images of more pixels a side fewer are looked at before there is a plan: it would take long.
SIDE_OF_ALL: Final = 64
RIDGE: Final = 1.0
# Mirroring may cost this much held-out accuracy, and a standard error more, and still count as harmless.
FLIP_TOLERANCE: Final = 0.02
# To build a candidate and copy its weights.
BUILD_S: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Start:
    """The supernet at the prior, its head fitted to this dataset, and the option logits [E, O] to begin from."""

    supernet: Supernet
    arch_logits: Tensor
    flip: bool


def begin(
    space_name: str,
    macro: Macro,
    prior: MetaPrior | None,
    data: TaskData,
    mode: Architecture,
    seed: int,
    *,
    arch_logits: Tensor,
) -> Start:
    """Return the start of a search; without a prior the weights are fresh.

    Args:
        space_name: The search space.
        macro: The skeleton.
        prior: Or None.
        data: Support to fit the head on; query to see whether mirrored images keep their label.
        mode: Architecture whose features the head is fitted on.
        seed: Of fresh weights.
        arch_logits: alpha [E, O], where the choices begin.
    """
    supernet = build_supernet(space_name, macro, generator=slot_generator(seed, 0, 0, "weights"))
    if prior is not None:
        with torch.no_grad():
            for name, parameter in supernet.named_parameters():
                if name not in HEAD_NAMES:
                    parameter.copy_(prior.loc[name])
    supernet.to(data.support.labels.device)
    fitted = _head_sample(data.support, macro.num_classes)
    features = _features(supernet, mode, fitted, mirrored=False)
    weight, bias = fit_ridge_head(features, fitted.labels, macro.num_classes, RIDGE)
    with torch.no_grad():
        supernet.classifier.weight.copy_(weight)
        supernet.classifier.bias.copy_(bias)
    return Start(supernet=supernet, arch_logits=arch_logits.clone(), flip=_flip_is_harmless(supernet, mode, data.query))


def _flip_is_harmless(supernet: Supernet, mode: Architecture, query: Part) -> bool:
    """Return whether the fitted head knows mirrored held-out images as well as the plain ones: letters it does not."""
    part = query.first(_affordable(FLIP_IMAGES, query))
    if len(part) < LEAST_FLIP_IMAGES:
        return False
    plain, mirrored = (
        supernet.classifier(_features(supernet, mode, part, mirrored=m)).argmax(1) == part.labels for m in (False, True)
    )
    lost, gained = int((plain & ~mirrored).sum()), int((mirrored & ~plain).sum())
    return lost - gained <= FLIP_TOLERANCE * len(part) + math.sqrt(lost + gained)


def choose_precision(supernet: Supernet, data: TaskData, typical: Architecture, batch_size: int) -> Precision:
    """Return in which precision steps of training take less time here; leaves the weights as they were."""
    first = data.support.first(max(2, batch_size // 2))
    batch = to_batch(first.images, data.resolution), first.labels

    def step(precision: Precision) -> None:
        path_loss(supernet, typical, *batch, precision).backward()

    chosen = faster_precision(step, data.support.labels.device)
    supernet.zero_grad(set_to_none=True)
    return chosen


def measure_speed(
    supernet: Supernet,
    data: TaskData,
    typical: Architecture,
    paths: list[Architecture],
    precision: Precision,
    batch_size: int,
) -> Speed:
    """Return how long each unit of work takes here; leaves the weights as they were.

    Args:
        supernet: At the prior.
        data: The dataset.
        typical: What is likely to be trained in the end.
        paths: Drawn from the prior: what search steps are made of.
        precision: Of the passes of training and search.
        batch_size: Images of a step of either.
    """
    first = data.support.first(batch_size)
    batch = to_batch(first.images, data.resolution), first.labels
    query = data.query.first(at_once(QUERY_BATCH, data.resolution))
    query_batch = to_batch(query.images, data.resolution), query.labels

    def step(arch: Architecture) -> Callable[[], None]:
        def run() -> None:
            path_loss(supernet, arch, *batch, precision).backward()

        return run

    def forward() -> None:
        with torch.no_grad():
            path_loss(supernet, typical, *query_batch)

    device = data.support.labels.device
    for once in (step(typical), forward):
        once()  # also chooses kernels
    train_step_s = mean_seconds([step(typical)] * 3, device)
    search_step_s = mean_seconds([step(arch) for arch in paths], device)
    forward_s = mean_seconds([forward] * 2, device) / len(query)
    supernet.zero_grad(set_to_none=True)
    return Speed(
        search_step_s=search_step_s,
        # A path costs its share of the typical forward pass.
        path_s=forward_s * len(query) * search_step_s / train_step_s,
        candidate_s=BUILD_S + forward_s * (CHOICE_IMAGES + CALIBRATION_IMAGES),
        train_step_s=train_step_s,
        forward_s=forward_s,
        export_s=export_seconds(num_layers(build_network(typical, supernet.macro, generator=torch.Generator()))),
    )


def num_layers(network: nn.Module) -> int:
    """Return the number of modules that hold no others: what the seconds of an export grow with."""
    return sum(1 for module in network.modules() if not any(True for _ in module.children()))


def mean_seconds(works: Sequence[Callable[[], None]], device: torch.device) -> float:
    """Return the mean time of some works on the device, one after the other."""
    wait_for(device)
    start_s = time.monotonic()
    for work in works:
        work()
    wait_for(device)
    return (time.monotonic() - start_s) / len(works)


def _head_sample(support: Part, num_classes: int) -> Part:
    """Return the first images of a shuffled part, and at least one of every class."""
    firsts = [int(torch.nonzero(support.labels == label)[0]) for label in range(num_classes)]
    index = torch.tensor(sorted({*range(_affordable(HEAD_IMAGES, support)), *firsts}))
    return Part(images=support.images[index], labels=support.labels[index])


def _affordable(number: int, part: Part) -> int:
    """Return how many images of a part to look at, at least 1: fewer than `number` where they are large or few."""
    side = part.images.shape[1]
    return min(len(part), max(1, number * SIDE_OF_ALL**2 // max(SIDE_OF_ALL, side) ** 2))


def _features(supernet: Supernet, mode: Architecture, part: Part, *, mirrored: bool) -> Tensor:
    with torch.no_grad():
        return torch.cat(
            [supernet.features(images.flip(3) if mirrored else images, mode) for images, _ in part.batches(QUERY_BATCH)]
        )
