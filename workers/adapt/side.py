"""At which side an adaptation learns, in pixels: the largest one at which its seconds afford enough looks at images.

A quarter of the pixels are about a quarter of the seconds on a CPU: on a short budget, four looks at small images teach
more than one at large ones. `docs/adaptations.md` says what was measured.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.architecture import Architecture
from search_spaces.network import Network, build_network
from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from workers.adapt.limits import Feasible, Limits
from workers.adapt.plan import LEAST_BATCH_SIZE, MIN_TRAIN_STEPS, RESOLUTIONS, batch_size, export_seconds
from workers.adapt.start import mean_seconds, num_layers
from workers.bayes.distributions import MetaPrior
from workers.bayes.randomness import slot_generator
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.base import Precision
from workers.contracts.datasets import DatasetReport
from workers.priors.model import uniform_logits
from workers.tasks.split_sizes import HELD_OUT_SHARE, query_fraction
from workers.training.precision import faster_precision, passes_in

# Looks at images that a side takes before it is as good as the next smaller one; from 32 on as many as there. Either is
# enough: of many images not every one has to be seen, and of fewer there is less to see; of a few, as any training has.
ENOUGH_IMAGES: Final = {16: 0, 24: 9_600, 32: 150_000}
ENOUGH_EPOCHS: Final = {16: 0.0, 24: 1.5, 32: 8.0}
NUM_TIMED_STEPS: Final = 2
# Drawn where no architecture is likely before the others, to time the one of median cost.
NUM_DRAWN: Final = 15


def possible_sides(request: AdaptationRequest, full: int, prior_sides: Sequence[int]) -> list[int]:
    """Return the sides that an adaptation may learn at, ascending: only the full one where one was asked for.

    Args:
        request: What was asked.
        full: The largest, from the data.
        prior_sides: That the prior learned at; none is below the least. Empty: without a prior.
    """
    least = full if request.resolution is not None else min(prior_sides, default=RESOLUTIONS[0])
    return [*(side for side in RESOLUTIONS if least <= side < full), full]


def choose_side(
    request: AdaptationRequest,
    macro: Macro,
    prior: MetaPrior | None,
    sides: Sequence[int],
    report: DatasetReport,
    device: torch.device,
    remaining_s: Callable[[], float],
) -> int:
    """Return the largest side at which the seconds afford enough looks at images, or the least of all.

    Steps are timed before anything is decoded, from the least side up, on noise.

    Args:
        request: What was asked.
        macro: The skeleton, at any side.
        prior: Whose mode is timed; None: an architecture of median cost is.
        sides: Ascending, in pixels.
        report: Of the dataset: how many images there are to learn from.
        device: To compute on.
        remaining_s: Seconds of the budget that are left.
    """
    chosen = sides[0]
    if len(sides) == 1:
        return chosen
    num_train = _num_train(report)
    arch = _typical(request, macro, prior)
    network = build_network(arch, macro, generator=slot_generator(0, 0, 0, "side")).to(device).train()
    size = batch_size(request, num_train, sides[1])
    precision = faster_precision(partial(_step, network, _noise(sides[1], max(2, size // 2), device)), device)
    export_s = export_seconds(num_layers(network))
    for side in sides[1:]:
        size = batch_size(request, num_train, side)
        step_s = _step_seconds(network, _noise(side, size, device), precision)
        num_images = max(0.0, remaining_s() - export_s) / step_s * size * max(1, request.num_workers)
        like = min(side, max(ENOUGH_IMAGES))
        shortest = MIN_TRAIN_STEPS * min(LEAST_BATCH_SIZE, num_train)
        if num_images < min(ENOUGH_IMAGES[like], max(shortest, ENOUGH_EPOCHS[like] * num_train)):
            break
        chosen = side
    return chosen


def _num_train(report: DatasetReport) -> int:
    """Return about how many images there are to learn from, at least one: `split_sizes` without rounding by class."""
    declared = report.splits
    num_images = declared.get("train", report.total_images)
    if declared.get("val") and declared.get("test"):
        return max(1, num_images)
    cut = query_fraction(report.total_images)
    cut += 0.0 if declared.get("val") or declared.get("test") else HELD_OUT_SHARE
    return max(1, round(num_images * (1 - cut)))


def _typical(request: AdaptationRequest, macro: Macro, prior: MetaPrior | None) -> Architecture:
    """Return what is likely to be trained: the given or published one, the prior's mode, or one of median cost."""
    space = SPACES[request.search_space]
    feasible = Feasible(space, macro, Limits(max_params=request.max_params, max_macs=request.max_macs))
    fixed = feasible.fixed(request)
    if fixed is not None:
        return fixed
    if prior is not None and request.search != "random":
        return feasible.mode(prior.arch_logits)
    generator = slot_generator(request.seed, 0, 0, "side")
    drawn = feasible.sample(feasible.tilt(uniform_logits(space), generator), NUM_DRAWN, generator)
    return sorted(drawn, key=lambda arch: space.cost(arch, macro).macs)[len(drawn) // 2]


def _noise(side: int, size: int, device: torch.device) -> Tensor:
    """Return `size` images of a side."""
    return torch.rand(size, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)


def _step(network: Network, images: Tensor, precision: Precision) -> None:
    with passes_in(precision, images.device):
        logits_NK = network(images)
    F.cross_entropy(logits_NK.float(), torch.zeros(len(images), dtype=torch.int64, device=images.device)).backward()


def _step_seconds(network: Network, images: Tensor, precision: Precision) -> float:
    """Return the seconds of a training step."""
    step = partial(_step, network, images, precision)
    step()  # also chooses kernels
    return min(mean_seconds([step], images.device) for _ in range(NUM_TIMED_STEPS))
