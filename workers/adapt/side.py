"""At which side an adaptation learns, in pixels: the largest one at which its seconds afford enough epochs.

A quarter of the pixels are a quarter of the seconds: on a short budget, four looks at small images teach more than one
at large ones. `docs/adaptations.md` says what was measured.
"""

from collections.abc import Callable, Sequence
from typing import Final

import torch.nn.functional as F

from search_spaces.architecture import Architecture
from search_spaces.network import build_network
from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from workers.adapt.data import TaskData
from workers.adapt.plan import BATCH_SIZE, EXPORT_S, RESOLUTIONS, given_architecture
from workers.adapt.start import mean_seconds
from workers.bayes.distributions import MetaPrior
from workers.bayes.randomness import slot_generator
from workers.contracts.adaptations import AdaptationRequest
from workers.priors.loss_model import draw_valid
from workers.priors.model import mode_of
from workers.tasks.batches import to_batch

# Epochs that a side takes before it is better than the next smaller one; from 32 on as many as there.
ENOUGH_EPOCHS: Final = {16: 0.0, 24: 4.0, 32: 40.0}
NUM_TIMED_STEPS: Final = 2
# Drawn where there is no prior, to time the one of median cost.
NUM_DRAWN: Final = 15


def choose_side(
    request: AdaptationRequest,
    macro: Macro,
    prior: MetaPrior | None,
    prior_sides: Sequence[int],
    data: TaskData,
    remaining_s: Callable[[], float],
) -> int:
    """Return the side to learn at: the macro's own, where one was asked for.

    Args:
        request: What was asked.
        macro: At the largest side that could be.
        prior: Whose mode is timed; None: an architecture of median cost is.
        prior_sides: That it learned at; none is chosen below the least. Empty: without a prior.
        data: At the macro's side.
        remaining_s: Seconds of the budget that are left.
    """
    full = macro.image_size
    least = min(prior_sides, default=RESOLUTIONS[0])
    sides = [*(side for side in RESOLUTIONS if least <= side < full), full]
    if request.resolution is not None or len(sides) == 1:
        return full
    step_s = _step_seconds(_typical(request, macro, prior), macro, data)
    per_epoch_s = step_s * len(data.support) / min(BATCH_SIZE, len(data.support)) / max(1, request.num_workers)
    return affordable_side(sides, max(0.0, remaining_s() - EXPORT_S) / per_epoch_s)


def affordable_side(sides: Sequence[int], epochs: float) -> int:
    """Return the largest side at which the seconds afford enough epochs, or the least of all.

    Args:
        sides: Ascending, in pixels.
        epochs: That the seconds afford at the last one.
    """
    full = sides[-1]
    most = max(ENOUGH_EPOCHS.values())
    enough = (side for side in reversed(sides) if epochs * (full / side) ** 2 >= ENOUGH_EPOCHS.get(side, most))
    return next(enough, sides[0])


def _typical(request: AdaptationRequest, macro: Macro, prior: MetaPrior | None) -> Architecture:
    given = given_architecture(request)
    if given is not None:
        return given
    space = SPACES[request.search_space]
    if prior is not None:
        return mode_of(prior, space)
    drawn = draw_valid(space, NUM_DRAWN, slot_generator(request.seed, 0, 0, "side"))
    return sorted(drawn, key=lambda arch: space.cost(arch, macro).macs)[len(drawn) // 2]


def _step_seconds(arch: Architecture, macro: Macro, data: TaskData) -> float:
    """Return the seconds of a training step at the macro's side."""
    device = data.support.labels.device
    network = build_network(arch, macro, generator=slot_generator(0, 0, 0, "side")).to(device).train()
    batch = data.support.first(BATCH_SIZE)
    images = to_batch(batch.images, macro.image_size)

    def step() -> None:
        F.cross_entropy(network(images), batch.labels).backward()

    step()  # also chooses kernels
    return mean_seconds([step] * NUM_TIMED_STEPS)
