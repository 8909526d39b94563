"""The mobile space beside what holds for every space: published blocks, counts by hand, names."""

import math

import pytest
import torch
from torchvision.models.mobilenetv2 import InvertedResidual as BlockV2
from torchvision.models.mobilenetv3 import InvertedResidual as BlockV3
from torchvision.models.mobilenetv3 import InvertedResidualConfig

from search_spaces.architecture import Architecture
from search_spaces.cost import layers_cost
from search_spaces.errors import InvalidArchitectureError, InvalidOptionError
from search_spaces.mobile.chain import BLOCKS, OPS, SKIP, op_layers, squeezed_channels
from search_spaces.mobile.space import Mobile
from search_spaces.modules import build_layers
from search_spaces.network import build_network
from search_spaces.spec import Macro
from search_spaces.supernet import build_supernet

SPACE = Mobile()
SHAPES = [(16, 16, 1), (16, 24, 1), (16, 16, 2), (16, 24, 2)]


def macro_of(**changes):
    return Macro(**{"num_channels": 16, "num_cells": 1, "num_classes": 10, "image_size": 32, **changes})


def chain_of(first, *others):
    """The same stage four times."""
    return Architecture("mobile", tuple(OPS.index(op) for op in (first, *others) * 4))


def copied(source, op, shape):
    """Our block with the weights of theirs, in the order of their layers."""
    module = build_layers(op_layers(op, *shape), track_statistics=True).double()
    theirs = list(source.parameters())
    assert [p.shape for p in module.parameters()] == [p.shape for p in theirs]
    with torch.no_grad():
        for target, value in zip(module.parameters(), theirs, strict=True):
            target.copy_(value)
    return module


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", BLOCKS)
def test_a_block_computes_what_torchvisions_mobilenet_v3_block_computes(op, shape):
    block = BLOCKS[op]
    in_channels, out_channels, stride = shape
    inner = block.expansion * in_channels
    config = InvertedResidualConfig(
        in_channels, block.kernel, inner, out_channels, block.squeeze, "RE", stride, dilation=1, width_mult=1.0
    )
    theirs = BlockV3(config, norm_layer=torch.nn.BatchNorm2d).double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    ours = copied(theirs, op, shape)
    x = torch.randn(4, in_channels, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("expansion", [3, 6])
def test_a_block_of_kernel_3_has_the_weights_of_torchvisions_mobilenet_v2_block(expansion, shape):
    theirs = BlockV2(*shape, expansion).double()
    ours = copied(theirs, f"mbconv_k3_e{expansion}", shape)
    # They cut activations at 6, which these images never reach.
    x = 0.01 * torch.randn(4, shape[0], 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def block_params(op, width_in, width_out):
    """Weights of a block by hand: three convolutions, their batch norms, two small layers with bias."""
    kernel, inner = int(op[8]), int(op[11]) * width_in
    squeezed = {48: 16, 96: 24, 192: 48, 288: 72, 384: 96}.get(inner)
    convolutions = width_in * inner + kernel * kernel * inner + inner * width_out
    squeeze = 2 * inner * squeezed + inner + squeezed if op.endswith("_se") else 0
    return convolutions + 2 * (inner + inner + width_out) + squeeze


@pytest.mark.parametrize(
    ("stage", "num_params"),
    [
        (("mbconv_k3_e6", "mbconv_k3_e6", "mbconv_k3_e6"), 284_474),
        (("mbconv_k3_e3", SKIP, SKIP), 42_538),
        (("mbconv_k7_e6_se",) * 3, 736_994),
    ],
)
@pytest.mark.parametrize("num_cells", [1, 2])
def test_parameters_of_whole_chains_are_those_counted_by_hand(stage, num_params, num_cells):
    total = 3 * 16 * 9 + 2 * 16
    width_in = 16
    for width_out in (16, 32, 48, 64):
        total += block_params(stage[0], width_in, width_out)
        total += num_cells * sum(block_params(op, width_out, width_out) for op in stage[1:] if op != SKIP)
        width_in = width_out
    total += 64 * 128 + 2 * 128 + 128 * 10 + 10
    cost = SPACE.cost(chain_of(*stage), macro_of(num_cells=num_cells))
    assert cost.params == total
    if num_cells == 1:
        assert cost.params == num_params


def test_macs_of_the_smallest_chain_are_those_counted_by_hand():
    def block(side, stride, width_in, width_out):
        inner, after = 3 * width_in, side // stride
        return side**2 * width_in * inner + after**2 * (9 * inner + inner * width_out)

    blocks = block(32, 2, 16, 16) + block(16, 2, 16, 32) + block(8, 1, 32, 48) + block(8, 2, 48, 64)
    expected = 32**2 * 3 * 16 * 9 + blocks + 4**2 * 64 * 128 + 128 * 10
    assert SPACE.cost(chain_of("mbconv_k3_e3", SKIP, SKIP), macro_of()).macs == expected


@pytest.mark.parametrize(
    ("channels", "squeezed"), [(12, 8), (48, 16), (96, 24), (144, 40), (192, 48), (288, 72), (384, 96), (576, 144)]
)
def test_squeezed_channels_are_multiples_of_eight_near_a_quarter(channels, squeezed):
    assert squeezed_channels(channels) == squeezed


def test_the_first_layer_of_a_stage_is_no_identity_and_the_others_may_be():
    assert [SKIP in decision.options for decision in SPACE.decisions] == [False, True, True] * 4
    assert [len(decision.options) for decision in SPACE.decisions] == [12, 13, 13] * 4
    assert SPACE.num_architectures == 12.0**4 * 13.0**8
    with pytest.raises(InvalidArchitectureError, match="layer 1 of stage 2"):
        SPACE.parse(
            "+".join(["|mbconv_k3_e3|skip_connect|skip_connect|", "|skip_connect|skip_connect|skip_connect|"] * 2)
        )
    with pytest.raises(InvalidArchitectureError, match=r"choice at 1\.1"):
        SPACE.format(chain_of(SKIP, SKIP, SKIP))


def test_costs_add_over_layers_so_the_cheapest_chain_is_the_minimum():
    macro = macro_of(image_size=16)
    base = chain_of("mbconv_k5_e3", SKIP, SKIP)
    params = macs = 0
    for decision, options in enumerate(SPACE.decisions):
        costs = [
            SPACE.cost(Architecture("mobile", (*base.choices[:decision], o, *base.choices[decision + 1 :])), macro)
            for o in range(len(options.options))
        ]
        params += min(cost.params for cost in costs) - SPACE.cost(base, macro).params
        macs += min(cost.macs for cost in costs) - SPACE.cost(base, macro).macs
    assert SPACE.minimum_cost(macro).params == SPACE.cost(base, macro).params + params
    assert SPACE.minimum_cost(macro).macs == SPACE.cost(base, macro).macs + macs


def test_more_cells_repeat_the_layers_after_the_first_with_weights_of_their_own():
    arch = SPACE.parse("+".join(["|mbconv_k5_e3|mbconv_k3_e6|skip_connect|"] * 4))
    network = build_network(arch, macro_of(num_cells=3))
    ops = [next(iter(layer.ops)) for layer in network.body.layers]
    assert ops == (["mbconv_k5_e3"] + ["mbconv_k3_e6", SKIP] * 3) * 4
    first, second = (network.body.layers[i].ops["mbconv_k3_e6"][0].branch[0].weight for i in (1, 3))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("image_size", "sides"), [(64, [32, 16, 16, 8]), (16, [8, 4, 4, 2]), (9, [5, 3, 3, 2])])
def test_all_stages_but_the_third_halve_the_side(image_size, sides):
    network = build_network(chain_of("mbconv_k7_e3", SKIP, SKIP), macro_of(num_channels=2, image_size=image_size))
    shapes = []
    for layer in network.body.layers[2::3]:
        layer.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    network(torch.randn(2, 3, image_size, image_size))
    assert shapes == [(width, side, side) for width, side in zip((2, 4, 6, 8), sides, strict=True)]
    assert network.num_features == 16


@pytest.mark.parametrize("changes", [{"skeleton": "imagenet"}, {"auxiliary": True}])
def test_other_skeletons_and_auxiliary_heads_are_refused(changes):
    with pytest.raises(InvalidOptionError, match="of mobile"):
        SPACE.cost(chain_of("mbconv_k3_e3", SKIP, SKIP), macro_of(**changes))


def test_weights_of_zero_everywhere_are_refused():
    supernet = build_supernet("mobile", macro_of(num_channels=2))
    weights = torch.zeros(12, 13)
    weights[:, 0] = 1.0
    weights[5] = 0.0
    with pytest.raises(InvalidOptionError, match="simplex"):
        supernet(torch.randn(2, 3, 32, 32), weights)


def test_the_drawing_has_a_panel_for_each_stage():
    arch = SPACE.parse("+".join(["|mbconv_k5_e3_se|skip_connect|mbconv_k3_e6|"] * 4))
    text = SPACE.draw_text(arch)
    assert [f"stage {number}" in text for number in (1, 2, 3, 4, 5)] == [True] * 4 + [False]
    assert text.count("1   = mbconv_k5_e3_se(in)") == text.count("out = mbconv_k3_e6(2)") == 4


@pytest.mark.parametrize(
    ("stages", "word"),
    [
        ([["mbconv_k3_e3"] * 3] * 3, "stages of a mobile"),
        ("mbconv_k3_e3", "stages of a mobile"),
        ([["mbconv_k3_e3"] * 2] * 4, "stage of a mobile"),
        (["mbconv_k3_e3"] * 4, "stage of a mobile"),
        ([["mbconv_k3_e3", "skip_connect", "mbconv_k9_e3"]] * 4, "layer 3 of stage 1"),
        ([["mbconv_k3_e3", ["skip_connect"], 3]] * 4, "layer 2 of stage 1"),
    ],
)
def test_errors_of_the_json_form_say_where(stages, word):
    with pytest.raises(InvalidArchitectureError, match=word):
        SPACE.parse({"space": "mobile", "stages": stages})


def test_the_cost_of_a_block_at_an_odd_side_is_that_of_what_runs():
    layers = op_layers("mbconv_k5_e3", 4, 6, 2)
    assert layers_cost(layers, 9).macs == 81 * 4 * 12 + math.ceil(9 / 2) ** 2 * (25 * 12 + 12 * 6)
