"""Which side an adaptation learns at, by what its seconds afford."""

from collections.abc import Callable

import pytest
import torch

from search_spaces.architecture import Architecture
from search_spaces.network import Network
from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from workers.adapt import side as side_module
from workers.adapt.plan import BASE_EXPORT_S, LEAST_BATCH_SIZE, MIN_TRAIN_STEPS
from workers.adapt.side import ENOUGH_EPOCHS, ENOUGH_IMAGES, choose_side, possible_sides
from workers.bayes.randomness import slot_generator
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.datasets import DatasetReport, SplitName
from workers.priors.model import fresh_prior, mode_of

SPACE = SPACES["nas_bench_201"]
MACRO = Macro(num_channels=4, num_cells=1, num_classes=2, image_size=32)
SIDES = (16, 24, 32)
PRIOR = fresh_prior(SPACE.name, MACRO, slot_generator(0, 0, 0, "weights"), weight_scale=0.1)
CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
NUM_IMAGES = 8200


def report(splits: dict[SplitName, int] | None = None) -> DatasetReport:
    return DatasetReport(
        classes=("a", "b"),
        num_images=(NUM_IMAGES // 2, NUM_IMAGES // 2),
        splits=splits or {},
        median_size=32,
        min_size=32,
        max_size=32,
        modes={"RGB": NUM_IMAGES},
    )


# So few that what is enough of them is told in epochs.
NUM_TRAIN = side_module._num_train(report())


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Architecture, int]]:
    """The architectures and sides that were timed, in their order."""
    return []


@pytest.fixture
def chosen(timed: list[tuple[Architecture, int]], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """What is chosen where the seconds afford so many epochs of NUM_TRAIN at 32 pixels, and pixels cost them."""

    def choose(
        epochs_at_32: float,
        *,
        sides: tuple[int, ...] = SIDES,
        with_prior: bool = True,
        flat: bool = False,
        splits: dict[SplitName, int] | None = None,
        **request: object,
    ) -> int:
        free_s = 50.0

        def step_s(network: Network, images: torch.Tensor, precision: str) -> float:
            side = images.shape[-1]
            timed.append((network.architecture, side))
            at_32 = free_s / epochs_at_32 / NUM_TRAIN * len(images)
            return at_32 if flat else at_32 * (side / 32) ** 2

        monkeypatch.setattr(side_module, "_step_seconds", step_s)
        monkeypatch.setattr(side_module, "faster_precision", lambda *_: "float32")
        monkeypatch.setattr(side_module, "export_seconds", lambda num_layers: BASE_EXPORT_S if num_layers > 5 else 0.0)
        asked = AdaptationRequest.model_validate({"prior": "p" if with_prior else "none", **request})
        prior = PRIOR if with_prior else None
        device = torch.device("cpu")
        return choose_side(asked, MACRO, prior, sides, report(splits), device, lambda: BASE_EXPORT_S + free_s)

    return choose


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(ENOUGH_EPOCHS[32] + 1, 32), (ENOUGH_EPOCHS[32] - 1, 24), (ENOUGH_EPOCHS[24], 24), (0.8, 16), (0.01, 16)],
)
def test_the_largest_side_with_enough_epochs_or_the_least(
    epochs: float, expected: int, chosen: Callable[..., int]
) -> None:
    assert chosen(epochs) == expected


def test_between_the_shortest_training_and_what_is_always_enough_epochs_decide(chosen: Callable[..., int]) -> None:
    side = 24
    of_so_many: dict[SplitName, int] = {"train": 8000}
    num_images = ENOUGH_EPOCHS[side] * side_module._num_train(report(of_so_many))
    assert MIN_TRAIN_STEPS * LEAST_BATCH_SIZE < num_images < ENOUGH_IMAGES[side]
    for images, expected in ((1.01 * num_images, side), (0.99 * num_images, 16)):
        assert chosen(images / NUM_TRAIN * (side / 32) ** 2, splits=of_so_many) == expected


def test_larger_sides_take_as_many_epochs(chosen: Callable[..., int]) -> None:
    sides = (16, 24, 32, 48, 64)
    assert chosen(4.1 * ENOUGH_EPOCHS[32], sides=sides) == 64
    assert chosen(2.3 * ENOUGH_EPOCHS[32], sides=sides) == 48


def test_nothing_is_timed_beyond_the_first_side_that_is_too_dear(
    chosen: Callable[..., int], timed: list[tuple[Architecture, int]]
) -> None:
    assert chosen(0.8) == 16
    assert [side for _, side in timed] == [24]


def test_where_pixels_cost_nothing_none_are_given_up(chosen: Callable[..., int]) -> None:
    assert chosen(ENOUGH_EPOCHS[32] + 1, flat=True) == 32
    assert chosen(ENOUGH_EPOCHS[24] + 1, flat=True) == 24


def test_of_many_images_so_many_are_enough(chosen: Callable[..., int]) -> None:
    for images, side in ((1.01 * ENOUGH_IMAGES[32], 32), (0.99 * ENOUGH_IMAGES[32], 24)):
        assert chosen(images / NUM_TRAIN, splits={"train": 1_000_000}) == side
    for images, side in ((1.01 * ENOUGH_IMAGES[24], 24), (0.99 * ENOUGH_IMAGES[24], 16)):
        assert chosen(images / NUM_TRAIN * (24 / 32) ** 2, splits={"train": 1_000_000}) == side


def test_of_few_images_a_shortest_training_is_enough(chosen: Callable[..., int]) -> None:
    few: dict[SplitName, int] = {"train": 100}
    shortest = MIN_TRAIN_STEPS * min(LEAST_BATCH_SIZE, side_module._num_train(report(few)))
    for images, side in ((1.01 * shortest, 32), (0.99 * shortest, 24)):
        assert chosen(images / NUM_TRAIN, splits=few) == side
    assert chosen(0.5 * shortest / NUM_TRAIN, splits=few) == 16


def test_workers_share_an_epoch(chosen: Callable[..., int]) -> None:
    assert chosen(0.75 * ENOUGH_EPOCHS[32]) == 24
    assert chosen(0.75 * ENOUGH_EPOCHS[32], num_workers=2) == 32


def test_an_epoch_is_of_the_images_to_learn_from(chosen: Callable[..., int]) -> None:
    near = 0.75 * ENOUGH_EPOCHS[32]
    assert chosen(near, splits={"train": 3280, "val": 2460, "test": 2460}) == 32
    assert chosen(near, splits={"train": 3280, "test": 4920}) == 32
    assert chosen(near, splits={"train": NUM_IMAGES}) == 24


def test_the_sides_are_those_between_the_priors_and_the_datas() -> None:
    asked = AdaptationRequest()
    assert possible_sides(asked, 32, ()) == [16, 24, 32]
    assert possible_sides(asked, 32, (24, 32)) == [24, 32]
    assert possible_sides(asked, 32, (64,)) == [32]
    assert possible_sides(asked, 16, (16, 32)) == [16]
    assert possible_sides(AdaptationRequest(resolution=40), 40, (16,)) == [40]


def test_the_priors_mode_is_timed_within_the_limits(
    chosen: Callable[..., int], timed: list[tuple[Architecture, int]]
) -> None:
    chosen(0.5)
    least = SPACE.minimum_cost(MACRO).macs
    chosen(0.5, max_macs=least)
    (mode, _), (within, _) = timed
    assert mode == mode_of(PRIOR, SPACE)
    assert SPACE.cost(within, MACRO).macs == least


@pytest.mark.parametrize("options", [{"with_prior": False, "search": "supernet"}, {"search": "random"}])
def test_without_a_likely_architecture_one_of_median_cost_is_timed(
    options: dict[str, object], chosen: Callable[..., int], timed: list[tuple[Architecture, int]]
) -> None:
    chosen(0.5, **options)

    ((arch, _),) = timed
    assert SPACE.cost(arch, MACRO).macs > SPACE.minimum_cost(MACRO).macs


def test_without_a_prior_the_published_architecture_is_timed(
    chosen: Callable[..., int], timed: list[tuple[Architecture, int]]
) -> None:
    chosen(0.5, with_prior=False)
    assert [arch for arch, _ in timed] == [SPACE.published()]


def test_the_given_architecture_is_timed(chosen: Callable[..., int], timed: list[tuple[Architecture, int]]) -> None:
    chosen(0.5, search="given", architecture=CELL)

    assert [SPACE.format(arch) for arch, _ in timed] == [CELL]


def test_a_real_step_takes_longer_at_more_pixels() -> None:
    asked, device = AdaptationRequest(prior="p"), torch.device("cpu")
    slow, fast = (
        choose_side(asked, MACRO, PRIOR, SIDES, report(), device, lambda seconds=seconds: BASE_EXPORT_S + seconds)
        for seconds in (0.0, 10_000.0)
    )
    assert (slow, fast) == (16, 32)
