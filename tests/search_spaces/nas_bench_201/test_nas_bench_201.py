import math
from itertools import pairwise, product

import pytest
import torch

from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidArchitectureError, InvalidOptionError
from search_spaces.nas_bench_201.cell import EDGES, NAME, OPS, OUTPUT, PATHS, live_ops
from search_spaces.nas_bench_201.space import NasBench201
from search_spaces.network import build_network
from search_spaces.spec import Macro
from search_spaces.supernet import build_supernet

SPACE = NasBench201()
ALL_CONV_3X3 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
BENCHMARK = Macro(num_channels=16, num_cells=5, num_classes=10, image_size=32)


def arch(*ops):
    return Architecture(NAME, tuple(OPS.index(op) for op in ops))


def test_six_edges_in_the_order_of_the_string_form():
    assert len(SPACE.decisions) == 6
    mixed = arch("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "none")
    assert SPACE.format(mixed) == ("|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|")
    assert SPACE.to_json(mixed) == {"space": NAME, "arch": SPACE.format(mixed)}


def test_parameters_of_the_largest_cell_are_those_of_the_literature():
    # Dong and Yang, NAS-Bench-201: 1.531546 M parameters for this cell at CIFAR-10.
    cell = SPACE.parse(ALL_CONV_3X3)
    assert SPACE.cost(cell, BENCHMARK).params == 1_531_546
    assert sum(p.numel() for p in build_network(cell, BENCHMARK).parameters()) == 1_531_546


def test_paths_are_all_ways_from_input_to_output():
    found = {
        path
        for length in (1, 2, 3)
        for path in product(EDGES, repeat=length)
        if path[0][0] == 0 and path[-1][1] == OUTPUT and all(a[1] == b[0] for a, b in pairwise(path))
    }
    assert found == set(PATHS)


def test_dead_edges_are_removed():
    # Node 1 is never fed; node 2 leads nowhere.
    cell = arch("none", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "nor_conv_3x3", "none")
    assert [(op.source, op.target, op.op) for op in live_ops(cell.choices)] == [(0, 3, "skip_connect")]
    lone_skip = arch("none", "none", "none", "skip_connect", "none", "none")
    assert SPACE.cost(cell, BENCHMARK) == SPACE.cost(lone_skip, BENCHMARK) == SPACE.minimum_cost(BENCHMARK)


def test_number_of_architectures_counts_connected_cells():
    connected = sum(SPACE.is_valid(Architecture(NAME, c)) for c in product(range(5), repeat=6))
    assert SPACE.num_architectures == connected < 5**6


def test_a_disconnected_cell_has_no_cost_and_no_network():
    cut = arch("nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3", "none", "none", "none")
    assert not SPACE.is_valid(cut)
    with pytest.raises(InvalidArchitectureError, match="none~2"):
        SPACE.cost(cut, BENCHMARK)
    with pytest.raises(InvalidArchitectureError, match="none~2"):
        build_network(cut, BENCHMARK)
    assert "nothing" in SPACE.draw_text(cut)


def test_a_disconnected_cell_still_gives_finite_logits_in_a_supernet():
    macro = SPACE.default_macro(num_classes=3, image_size=8)
    supernet = build_supernet(NAME, macro)
    logits = supernet(torch.randn(4, 3, 8, 8), Architecture(NAME, (0,) * 6))
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("seed", range(20))
def test_discretize_is_the_best_valid_cell_of_all(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(6, 5, generator=generator)
    scores[:, 0] += 2.0  # `none` wins nearly everywhere
    table = scores.tolist()
    valid = (c for c in product(range(5), repeat=6) if live_ops(c))
    best = max(valid, key=lambda c: sum(row[o] for row, o in zip(table, c, strict=True)))
    assert SPACE.discretize(table).choices == best


def test_uniform_scores_still_give_a_connected_cell():
    assert SPACE.is_valid(SPACE.discretize([[0.0] * 5] * 6))


def test_batch_norm_of_an_unfed_node_adds_nothing():
    """An op on zeros would still add its batch norm's shift; the supernet leaves it out as the network does."""
    macro = SPACE.default_macro(num_classes=3, image_size=8)
    supernet = build_supernet(NAME, macro).double()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    unfed = arch("none", "none", "nor_conv_3x3", "skip_connect", "nor_conv_3x3", "nor_conv_1x1")
    before = supernet(images, unfed)
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            if "edges.1-3" in name:
                parameter += 1.0
    assert torch.equal(supernet(images, unfed), before)


def test_a_cell_is_linear_in_the_weight_of_an_op_on_its_last_edge():
    supernet = build_supernet(NAME, SPACE.default_macro(num_classes=3, image_size=8)).double()
    cell = supernet.body.blocks[-1]
    x = torch.randn(2, 64, 4, 4, dtype=torch.float64)

    def output(weight):
        weights = torch.full((6, 5), 0.2, dtype=torch.float64)
        weights[EDGES.index((2, 3)), OPS.index("nor_conv_3x3")] = weight
        [route] = supernet.body.routes(weights).values()
        return cell.run(x, route)

    low, middle, high = output(0.2), output(0.5), output(0.8)
    assert not torch.allclose(low, high)
    torch.testing.assert_close(high - middle, middle - low, rtol=1e-9, atol=1e-9)


def test_only_the_cifar_skeleton_without_auxiliary_head():
    cell = SPACE.parse(ALL_CONV_3X3)
    for changes, word in (({"skeleton": "imagenet"}, "skeleton"), ({"auxiliary": True}, "auxiliary")):
        macro = Macro(num_channels=4, num_cells=1, num_classes=2, image_size=32, **changes)
        with pytest.raises(InvalidOptionError, match=word):
            SPACE.cost(cell, macro)
        with pytest.raises(InvalidOptionError, match=word):
            build_network(cell, macro)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (ALL_CONV_3X3.replace("nor_conv_3x3~2", "nor_conv_3x3~1"), "predecessor"),
        (ALL_CONV_3X3.replace("|nor_conv_3x3~2", ""), "ops into node 3"),
        (ALL_CONV_3X3 + "+|none~0|", "string form"),
        (ALL_CONV_3X3.replace("~2", ""), "predecessor"),
        ("|sep_conv_3x3~0|" + ALL_CONV_3X3.removeprefix("|nor_conv_3x3~0|"), "sep_conv_3x3"),
    ],
)
def test_errors_of_the_string_form_say_where(text, word):
    with pytest.raises(InvalidArchitectureError, match=word):
        SPACE.parse(text)


def test_stages_double_the_channels_and_halve_the_side():
    macro = Macro(num_channels=4, num_cells=2, num_classes=2, image_size=18)
    network = build_network(SPACE.parse(ALL_CONV_3X3), macro)
    shapes = []
    for block in network.body.blocks:
        block.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(inputs[0][0].shape)))
    network.body.tail.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    network(torch.randn(2, 3, 18, 18))
    assert network.num_features == 16
    assert shapes[-1] == (2, 16, math.ceil(18 / 4), math.ceil(18 / 4))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        # An op on no way to the output.
        ("|none~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|",
         "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|", True),
        # The inner nodes change places.
        ("|nor_conv_1x1~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|",
         "|none~0|+|nor_conv_1x1~0|none~1|+|none~0|none~1|nor_conv_3x3~2|", True),
        # A skip on the way.
        ("|skip_connect~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|",
         "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|", True),
        # One convolution that is read twice, and two of them.
        ("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|skip_connect~2|",
         "|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_3x3~0|skip_connect~1|none~2|", False),
        # Twice the input is not the input, and two layers are not their sum.
        ("|skip_connect~0|+|none~0|none~1|+|skip_connect~0|skip_connect~1|none~2|",
         "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|", False),
        ("|nor_conv_1x1~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|",
         "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_1x1~1|none~2|", False),
    ],
)  # fmt: skip
def test_cells_that_compute_the_same_have_one_signature(one, other, same):
    assert (SPACE.signature(SPACE.parse(one)) == SPACE.signature(SPACE.parse(other))) is same


def test_ops_on_no_way_to_the_output_are_left_out():
    cell = SPACE.parse("|none~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|")
    assert SPACE.format(SPACE.connected(cell)) == "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
