"""The one way in which networks are trained."""

import copy
import math

import pytest
import torch
from torch import Tensor

from search_spaces.network import Network, build_network
from search_spaces.registry import SPACES
from workers.training.muon import mixes_channels
from workers.training.recipe import LR, RISE, WEIGHT_DECAY, Trainer, share_of_peak

SPACE = SPACES["nas_bench_201"]
IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(8) % 2


@pytest.fixture
def network() -> Network:
    arch = SPACE.cheapest()[0]
    macro = SPACE.default_macro(num_classes=2, image_size=8)
    return build_network(arch, macro, generator=torch.Generator().manual_seed(0))


def test_rates_rise_then_fall_to_zero() -> None:
    assert 0 < share_of_peak(0.0) < 0.05
    assert share_of_peak(RISE) == pytest.approx(0.5 * (1 + math.cos(math.pi * RISE)))
    assert share_of_peak(0.5) == pytest.approx(0.5)
    assert share_of_peak(1.0) == 0


def test_steps_lower_the_loss(network: Network) -> None:
    trainer = Trainer(network)
    losses = [trainer.step(IMAGES, LABELS, 0.3) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]


def test_only_the_classifiers_matrix_decays(network: Network) -> None:
    def no_gradient(gradients: list[Tensor]) -> None:
        for gradient in gradients:
            gradient.zero_()

    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    Trainer(network).step(IMAGES, LABELS, 0.5, average=no_gradient)
    for name, p in network.named_parameters():
        decays = p.ndim > 1 and not mixes_channels(p)
        assert decays == (name == "classifier.weight")
        shrunk = before[name] * (1 - 0.5 * LR * WEIGHT_DECAY * 1.9) if decays else before[name]
        torch.testing.assert_close(p.detach(), shrunk)


def test_a_step_without_a_finite_gradient_changes_nothing(network: Network) -> None:
    trainer = Trainer(network)
    trainer.step(IMAGES, LABELS, 0.5)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    trainer.step(IMAGES * math.inf, LABELS, 0.5)
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters())
    # The momentum is forgotten: what follows is what a new trainer would do.
    twin = copy.deepcopy(network)
    trainer.step(IMAGES, LABELS, 0.5)
    Trainer(twin).step(IMAGES, LABELS, 0.5)
    torch.testing.assert_close(dict(network.named_parameters()), dict(twin.named_parameters()))


def test_in_mixed_precision_weights_learn_much_the_same_and_stay_float32(network: Network) -> None:
    twin = copy.deepcopy(network)
    exact, mixed = Trainer(network), Trainer(twin, "bfloat16")
    losses = [[trainer.step(IMAGES, LABELS, 0.3) for _ in range(20)] for trainer in (exact, mixed)]
    assert losses[0][0] != losses[1][0]
    assert losses[1][0] == pytest.approx(losses[0][0], rel=0.05)
    assert losses[1][-1] < 0.5 * losses[1][0]
    assert {p.dtype for p in twin.parameters()} == {torch.float32}
