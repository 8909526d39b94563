"""Counting on data agrees with the modules built from the same data."""

import pytest
import torch

from search_spaces.cost import layers_cost
from search_spaces.darts.cell import OPS as DARTS_OPS
from search_spaces.darts.cell import factorized_reduce, op_layers
from search_spaces.layers import (
    AvgPool,
    Conv,
    GlobalAvgPool,
    Linear,
    MaxPool,
    Residual,
    SqueezeExcite,
    relu_conv_bn,
    side_after,
)
from search_spaces.mobile.chain import OPS as MOBILE_OPS
from search_spaces.mobile.chain import op_layers as mobile_layers
from search_spaces.modules import FactorizedReduction, build_layers, initialize

LAYERS = {
    "conv": (Conv(4, 6, 3, 2, 1),),
    "dilated depthwise": (Conv(4, 4, 5, 1, 4, 2, groups=4),),
    "grouped": (Conv(8, 4, 3, groups=2),),
    "relu conv bn": relu_conv_bn(4, 5, 1),
    "factorized": factorized_reduce(4, 7),
    "average": (AvgPool(2, 2, ceil=True),),
    "largest": (MaxPool(3, 2, 1),),
    "head": (Conv(4, 8, 3), GlobalAvgPool(), Linear(8, 3)),
    "identity": (),
    "squeeze": (SqueezeExcite(4, 3),),
    "residual": (Residual(relu_conv_bn(4, 4, 3)),),
    **{f"darts {op} stride {s}": op_layers(op, 4, s) for op in DARTS_OPS for s in (1, 2)},
    **{f"mobile {op}": mobile_layers(op, 4, 4, 1) for op in MOBILE_OPS},
    **{f"mobile {op} stride 2": mobile_layers(op, 4, 6, 2) for op in MOBILE_OPS[:-1]},
}


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.parametrize("side", [8, 9])
def test_sides_and_parameters_are_those_of_the_modules(layers, side):
    module = build_layers(layers, track_statistics=True)
    in_channels = next((layer.in_channels for layer in layers if hasattr(layer, "in_channels")), 4)
    output = module(torch.randn(2, in_channels, side, side))
    expected = side_after(layers, side)
    assert output.shape[2:] in ((expected, expected), ())
    assert layers_cost(layers, side).params == sum(p.numel() for p in module.parameters())


def test_macs_of_convolutions_by_hand():
    assert layers_cost((Conv(3, 16, 3, padding=1),), 32).macs == 3 * 16 * 9 * 32 * 32
    assert layers_cost((Conv(16, 16, 5, 2, 2, groups=16),), 32).macs == 16 * 25 * 16 * 16
    assert layers_cost((Linear(10, 4),), 1).macs == 40
    assert layers_cost((SqueezeExcite(16, 8),), 32).macs == 2 * 16 * 8
    assert layers_cost((Residual((Conv(4, 4, 3, padding=1),)),), 32).macs == 4 * 4 * 9 * 32 * 32


def test_squeeze_excitation_scales_channels_by_their_own_means():
    module = build_layers((SqueezeExcite(2, 1),), track_statistics=True)
    with torch.no_grad():
        module[0].squeeze.weight.copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
        module[0].squeeze.bias.fill_(0.5)
        module[0].excite.weight.copy_(torch.tensor([1.0, -2.0]).view(2, 1, 1, 1))
        module[0].excite.bias.copy_(torch.tensor([0.0, 1.0]))
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    unit = (x[:, 0].mean(dim=(1, 2)) - x[:, 1].mean(dim=(1, 2)) + 0.5).clamp(min=0)
    scales = torch.stack([unit, 1 - 2 * unit], dim=1)
    expected = x * ((scales + 3) / 6).clamp(0, 1).view(3, 2, 1, 1)
    torch.testing.assert_close(module(x), expected)


def test_a_residual_adds_its_input():
    module = build_layers((Residual((Conv(2, 2, 1),)),), track_statistics=True)
    x = torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(module(x), x + module[0].branch[0](x))


def test_factorized_reduction_reads_every_pixel_once_at_even_sides():
    module = FactorizedReduction(1, 2)
    with torch.no_grad():
        module.conv_1.weight.fill_(1.0)
        module.conv_2.weight.fill_(1.0)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    first, second = module(x)[0]
    torch.testing.assert_close(first, x[0, 0, ::2, ::2])
    torch.testing.assert_close(second, x[0, 0, 1::2, 1::2])


def test_initial_weights_have_the_variance_of_their_fan_out():
    with torch.device("meta"):
        module = build_layers((Conv(64, 64, 3), Conv(256, 256, 5, groups=256)), track_statistics=True)
    initialize(module, torch.Generator().manual_seed(0))
    # 5 standard errors of a variance over n normal draws: 5 sqrt(2 / n).
    for conv, fan_out in zip(module, (64 * 9, 25), strict=True):
        tolerance = 5 * (2 / conv.weight.numel()) ** 0.5
        assert conv.weight.var().item() * fan_out / 2 == pytest.approx(1.0, rel=tolerance)


def test_a_generator_draws_all_weights_and_leaves_the_global_one_alone():
    def draw(seed):
        with torch.device("meta"):
            module = build_layers((Conv(3, 4, 3), SqueezeExcite(4, 2), Linear(4, 2)), track_statistics=True)
        initialize(module, torch.Generator().manual_seed(seed))
        assert not module[1].squeeze.bias.any()
        return torch.cat([p.detach().flatten() for p in module.parameters()])

    before = torch.get_rng_state()
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert torch.equal(torch.get_rng_state(), before)
