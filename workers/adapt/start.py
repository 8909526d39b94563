"""Where an adaptation begins: the supernet with the prior's weights, a fitted head, and how fast things go here."""

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
from workers.adapt.choice import CALIBRATION_BATCHES, CHOICE_IMAGES, EVAL_BATCH
from workers.adapt.data import Part, TaskData
from workers.adapt.plan import BATCH_SIZE, Speed, export_seconds
from workers.adapt.search import QUERY_BATCH, path_loss
from workers.bayes.distributions import MetaPrior
from workers.bayes.heads import fit_ridge_head
from workers.bayes.randomness import slot_generator
from workers.priors.model import HEAD_NAMES
from workers.tasks.batches import to_batch

HEAD_IMAGES: Final = 1000
FLIP_IMAGES: Final = 300
RIDGE: Final = 1.0
# Mirroring may cost this much held-out accuracy and still count as harmless.
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
    part = query.first(FLIP_IMAGES)
    plain, mirrored = (
        float(
            (supernet.classifier(_features(supernet, mode, part, mirrored=m)).argmax(1) == part.labels).double().mean()
        )
        for m in (False, True)
    )
    return mirrored >= plain - FLIP_TOLERANCE


def measure_speed(supernet: Supernet, data: TaskData, typical: Architecture, paths: list[Architecture]) -> Speed:
    """Return how long each unit of work takes here; leaves the weights as they were.

    Args:
        supernet: At the prior.
        data: The dataset.
        typical: What is likely to be trained in the end.
        paths: Drawn from the prior: what search steps are made of.
    """
    size = min(BATCH_SIZE, len(data.support))
    batch = to_batch(data.support.images[:size], data.resolution), data.support.labels[:size]
    query = data.query.first(QUERY_BATCH)
    query_batch = to_batch(query.images, data.resolution), query.labels

    def step(arch: Architecture) -> Callable[[], None]:
        def run() -> None:
            path_loss(supernet, arch, *batch).backward()

        return run

    def forward() -> None:
        with torch.no_grad():
            path_loss(supernet, typical, *query_batch)

    for first in (step(typical), forward):
        first()  # also chooses kernels
    train_step_s = mean_seconds([step(typical)] * 3)
    search_step_s = mean_seconds([step(arch) for arch in paths])
    forward_s = mean_seconds([forward] * 2) / len(query)
    supernet.zero_grad(set_to_none=True)
    return Speed(
        search_step_s=search_step_s,
        # A path costs its share of the typical forward pass.
        path_s=forward_s * len(query) * search_step_s / train_step_s,
        candidate_s=BUILD_S + forward_s * (CHOICE_IMAGES + EVAL_BATCH * CALIBRATION_BATCHES),
        train_step_s=train_step_s,
        forward_s=forward_s,
        export_s=export_seconds(num_layers(build_network(typical, supernet.macro, generator=torch.Generator()))),
    )


def num_layers(network: nn.Module) -> int:
    """Return the number of modules that hold no others: what the seconds of an export grow with."""
    return sum(1 for module in network.modules() if not any(True for _ in module.children()))


def mean_seconds(works: Sequence[Callable[[], None]]) -> float:
    """Return the mean time of some works on the device, one after the other."""
    _wait_for_device()
    start_s = time.monotonic()
    for work in works:
        work()
    _wait_for_device()
    return (time.monotonic() - start_s) / len(works)


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _head_sample(support: Part, num_classes: int) -> Part:
    """Return the first images of a shuffled part, and at least one of every class."""
    firsts = [int(torch.nonzero(support.labels == label)[0]) for label in range(num_classes)]
    index = torch.tensor(sorted({*range(min(HEAD_IMAGES, len(support))), *firsts}))
    return Part(images=support.images[index], labels=support.labels[index])


def _features(supernet: Supernet, mode: Architecture, part: Part, *, mirrored: bool) -> Tensor:
    with torch.no_grad():
        return torch.cat(
            [supernet.features(images.flip(3) if mirrored else images, mode) for images, _ in part.batches(QUERY_BATCH)]
        )
