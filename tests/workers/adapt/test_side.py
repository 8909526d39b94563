"""Which side an adaptation learns at, by what its seconds afford."""

from collections.abc import Callable

import pytest
import torch

from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from workers.adapt import side as side_module
from workers.adapt.data import Part, TaskData
from workers.adapt.side import ENOUGH_EPOCHS, affordable_side, choose_side
from workers.bayes.randomness import slot_generator
from workers.contracts.adaptations import AdaptationRequest
from workers.priors.model import fresh_prior
from workers.tasks.batches import to_batch

SPACE = "nas_bench_201"
MACRO = Macro(num_channels=4, num_cells=1, num_classes=2, image_size=32)
SIDES = (16, 24, 32)


def noise(side: int = 32, number: int = 20) -> TaskData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (number, side, side, 3), dtype=torch.uint8, generator=generator)
    part = Part(images=images, labels=torch.arange(number) % 2)
    return TaskData(support=part, query=part.first(10), test=part.first(6), classes=("a", "b"))


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """What is chosen where a step at 32 pixels takes `step_s` and an epoch is one step."""

    def choose(step_s: float, remaining_s: float = 60.0, sides: tuple[int, ...] = SIDES, **request: object) -> int:
        monkeypatch.setattr(side_module, "mean_seconds", lambda works: step_s)
        prior = fresh_prior(SPACE, MACRO, slot_generator(0, 0, 0, "weights"), weight_scale=0.1) if sides else None
        asked = AdaptationRequest.model_validate(request)
        return choose_side(asked, MACRO, prior, sides, noise(), lambda: remaining_s)

    return choose


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(ENOUGH_EPOCHS[32], 32), (ENOUGH_EPOCHS[32] - 1, 24), (ENOUGH_EPOCHS[24], 24), (1.0, 16), (0.0, 16)],
)
def test_the_largest_side_with_enough_epochs_or_the_least(epochs: float, expected: int) -> None:
    assert affordable_side(SIDES, epochs) == expected


def test_larger_sides_take_as_many_epochs() -> None:
    assert affordable_side((16, 24, 32, 48, 64), ENOUGH_EPOCHS[32]) == 64
    assert affordable_side((16, 24, 32, 48, 64), ENOUGH_EPOCHS[32] / 1.7) == 48


def test_fewer_seconds_or_slower_steps_shrink_the_images(chosen: Callable[..., int]) -> None:
    assert chosen(0.1) == 32
    assert chosen(0.1, remaining_s=9.0) == 24
    assert chosen(40.0) == 16
    assert chosen(0.1, remaining_s=7.0) == 16  # not even the export is afforded


def test_workers_share_an_epoch(chosen: Callable[..., int]) -> None:
    one_s = 52.5 / ENOUGH_EPOCHS[32] * 1.5
    assert chosen(one_s) == 24
    assert chosen(one_s, num_workers=2) == 32


def test_none_is_chosen_below_what_the_prior_has_seen(chosen: Callable[..., int]) -> None:
    assert chosen(20.0, sides=(24, 32)) == 24
    assert chosen(20.0, sides=(32,)) == 32


def test_a_side_that_was_asked_for_is_kept(chosen: Callable[..., int]) -> None:
    assert chosen(20.0, resolution=32) == 32


def test_without_a_prior_an_architecture_of_median_cost_is_timed(
    chosen: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = []
    monkeypatch.setattr(side_module, "_step_seconds", lambda arch, macro, data: timed.append(arch) or 40.0)

    assert chosen(20.0, sides=()) == 16

    costs = [SPACES[SPACE].cost(arch, MACRO).macs for arch in timed]
    least = SPACES[SPACE].minimum_cost(MACRO).macs
    (cost,) = costs
    assert cost > least


def test_the_given_architecture_is_timed(chosen: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    cell = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
    timed = []
    monkeypatch.setattr(side_module, "_step_seconds", lambda arch, macro, data: timed.append(arch) or 40.0)

    chosen(20.0, search="given", architecture=cell)

    assert [SPACES[SPACE].format(arch) for arch in timed] == [cell]


def test_shrunk_images_are_those_that_a_batch_of_that_side_shows() -> None:
    data = noise()

    small = data.shrunk(16)

    assert (small.resolution, small.sizes, small.classes) == (16, data.sizes, data.classes)
    assert torch.equal(to_batch(small.test.images, 16), to_batch(data.test.images, 16))
    assert data.shrunk(32) is data
