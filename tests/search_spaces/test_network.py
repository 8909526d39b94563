"""Discrete networks: cost, inheritance, recalibration."""

import pytest
import torch
from torch import nn

from search_spaces.errors import InvalidOptionError
from search_spaces.network import build_network, inherit, recalibrate
from search_spaces.spec import Macro
from search_spaces.supernet import build_supernet


def macro_of(**changes):
    return Macro(**{"num_channels": 4, "num_cells": 3, "num_classes": 5, "image_size": 16, **changes})


def count_macs(network, macro):
    """Multiply-accumulates of every convolution and linear layer that runs, for one image."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        weights_per_output = module.weight[0].numel()
        total += weights_per_output * output[0].numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    network.eval()(torch.randn(1, macro.image_channels, macro.image_size, macro.image_size))
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("changes", [{}, {"image_size": 13, "num_cells": 4, "image_channels": 1}])
def test_cost_is_that_of_the_network_that_is_built(space, draw_architectures, changes):
    macro = macro_of(**changes)
    for arch in draw_architectures(space, 8, seed=5):
        network = build_network(arch, macro)
        cost = space.cost(arch, macro)
        assert cost.params == sum(p.numel() for p in network.parameters())
        assert cost.macs == count_macs(network, macro)


def test_inheriting_names_what_is_missing_and_copies_nothing(space, draw_architectures):
    [arch] = draw_architectures(space, 1)
    network = build_network(arch, macro_of())
    source = dict(build_supernet(space.name, macro_of()).named_parameters())
    before = {name: p.clone() for name, p in network.named_parameters()}
    del source["classifier.bias"]
    with pytest.raises(InvalidOptionError, match=r"classifier\.bias"):
        inherit(network, source)
    source["classifier.bias"] = torch.zeros(9)
    with pytest.raises(InvalidOptionError, match=r"shape of classifier\.bias"):
        inherit(network, source)
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters())


def test_recalibration_takes_the_mean_of_batch_statistics(space, draw_architectures):
    network = build_network(draw_architectures(space, 1)[0], macro_of())
    stem = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    seen = []
    stem.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    batches = [torch.randn(8, 3, 16, 16) for _ in range(3)]
    network.eval()
    recalibrate(network, batches)
    assert not network.training
    assert stem.momentum == 0.1
    torch.testing.assert_close(stem.running_mean, torch.stack([x.mean(dim=(0, 2, 3)) for x in seen]).mean(dim=0))
    torch.testing.assert_close(stem.running_var, torch.stack([x.var(dim=(0, 2, 3)) for x in seen]).mean(dim=0))


def test_recalibrating_on_one_batch_reproduces_its_training_logits(space, draw_architectures):
    network = build_network(draw_architectures(space, 1, seed=6)[0], macro_of()).double()
    images = torch.randn(64, 3, 16, 16, dtype=torch.float64)
    expected = network.train()(images)
    recalibrate(network, [images])
    # Running variances are unbiased, batch variances are not: they differ by 1 / (n - 1), n >= 64 positions.
    torch.testing.assert_close(network.eval()(images), expected, rtol=0.1, atol=0.1)


def test_recalibration_needs_a_batch(space, draw_architectures):
    with pytest.raises(InvalidOptionError, match="batches"):
        recalibrate(build_network(draw_architectures(space, 1)[0], macro_of()), [])
