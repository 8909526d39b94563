import math
from itertools import product

import pytest
import torch

from search_spaces.architecture import Architecture
from search_spaces.cells import EdgeOp
from search_spaces.darts.body import edge_weights
from search_spaces.darts.cell import EDGES, NODES, OPS, PRIMITIVES, cells_of, node_options
from search_spaces.darts.plan import cell_kinds, live_outputs
from search_spaces.darts.rules import darts_rule
from search_spaces.darts.space import Darts, architecture_of
from search_spaces.errors import InvalidArchitectureError, InvalidOptionError
from search_spaces.network import build_network, inherit
from search_spaces.spec import Macro
from search_spaces.supernet import build_supernet

SPACE = Darts()
STRICT = Darts(distinct_predecessors=True)

DARTS_V2 = {
    "space": "darts",
    "normal": [
        *(["sep_conv_3x3", 0], ["sep_conv_3x3", 1]),
        *(["sep_conv_3x3", 0], ["sep_conv_3x3", 1]),
        *(["sep_conv_3x3", 1], ["skip_connect", 0]),
        *(["skip_connect", 0], ["dil_conv_3x3", 2]),
    ],
    "reduce": [
        *(["max_pool_3x3", 0], ["max_pool_3x3", 1]),
        *(["skip_connect", 2], ["max_pool_3x3", 1]),
        *(["max_pool_3x3", 0], ["skip_connect", 2]),
        *(["skip_connect", 2], ["max_pool_3x3", 1]),
    ],
}
BASE_CIFAR = {
    "space": "darts",
    "normal": [
        *(["skip_connect", 0], ["dil_conv_3x3", 1]),
        *(["max_pool_3x3", 0], ["dil_conv_5x5", 0]),
        *(["max_pool_3x3", 0], ["sep_conv_5x5", 0]),
        *(["max_pool_3x3", 1], ["dil_conv_5x5", 1]),
    ],
    "reduce": [
        *(["sep_conv_3x3", 0], ["sep_conv_5x5", 0]),
        *(["max_pool_3x3", 0], ["sep_conv_3x3", 0]),
        *(["skip_connect", 0], ["avg_pool_3x3", 3]),
        *(["max_pool_3x3", 1], ["skip_connect", 2]),
    ],
}


def cifar(**changes):
    return Macro(**{"num_channels": 36, "num_cells": 20, "num_classes": 10, "image_size": 32, **changes})


def pooling_cell(*inputs):
    """Every node pools the given inputs of the cell."""
    ops = ("max_pool_3x3", "avg_pool_3x3")
    return tuple(EdgeOp(source, node, op) for node in NODES for source, op in zip(inputs, ops, strict=True))


READS = [(0, 1), (0, 0), (1, 1)]


@pytest.mark.parametrize(
    ("genotype", "num_channels", "num_params"), [(DARTS_V2, 36, 3_349_342), (BASE_CIFAR, 40, 3_145_490)]
)
def test_parameters_of_published_cells_are_those_of_the_literature(genotype, num_channels, num_params):
    arch = SPACE.parse(genotype)
    assert SPACE.to_json(arch) == genotype
    macro = cifar(num_channels=num_channels)
    assert SPACE.cost(arch, macro).params == num_params
    assert sum(p.numel() for p in build_network(arch, macro).parameters()) == num_params


def test_imagenet_network_of_the_published_cell_has_the_published_size():
    # DARTS, table 3: 4.7 M parameters, fewer than 600 M multiply-adds, at 48 channels and 14 cells.
    macro = Macro(skeleton="imagenet", num_channels=48, num_cells=14, num_classes=1000, image_size=224)
    cost = SPACE.cost(SPACE.parse(DARTS_V2), macro)
    assert round(cost.params / 1e6, 1) == 4.7
    assert cost.macs < 600e6
    network = build_network(SPACE.parse(DARTS_V2), macro)
    assert sum(p.numel() for p in network.parameters()) == cost.params


def test_fourteen_edges_and_ragged_options():
    assert len(EDGES) == 14
    assert [len(decision.options) for decision in SPACE.decisions] == [14, 14, 21, 21, 28, 28, 35, 35] * 2
    assert "none" not in {op.op for node in NODES for op in node_options(node)}


@pytest.mark.parametrize("space", [SPACE, STRICT])
def test_number_of_architectures_counts_unordered_pairs(space):
    per_node = []
    for node in NODES:
        pairs = product(node_options(node), repeat=2)
        valid = [{a, b} for a, b in pairs if a != b and (a.source != b.source or space is SPACE)]
        per_node.append(len({frozenset(pair) for pair in valid}))
    assert space.num_architectures == float(math.prod(per_node) ** 2)


def test_the_published_cells_are_those_of_the_paper():
    assert SPACE.published() == SPACE.parse(DARTS_V2)


def test_distinct_predecessors_is_a_rule_of_its_own():
    base, darts = SPACE.parse(BASE_CIFAR), SPACE.parse(DARTS_V2)
    assert SPACE.is_valid(base)
    assert not STRICT.is_valid(base)
    assert STRICT.is_valid(darts)
    with pytest.raises(InvalidArchitectureError, match="different predecessors"):
        STRICT.cost(base, cifar())
    one_op = [[0.0] * 35 for _ in range(16)]
    for row in one_op:
        row[0] = 1.0
    for space in (SPACE, STRICT):
        assert space.is_valid(space.discretize(one_op))


def test_the_same_op_of_the_same_predecessor_twice_is_never_valid():
    twice = Architecture("darts", (0, 0, *SPACE.parse(DARTS_V2).choices[2:]))
    for space in (SPACE, STRICT):
        assert not space.is_valid(twice)
    with pytest.raises(InvalidArchitectureError, match="max_pool_3x3~0"):
        SPACE.cost(twice, cifar())
    with pytest.raises(InvalidArchitectureError, match="max_pool_3x3~0"):
        build_network(twice, cifar(num_cells=3))


@pytest.mark.parametrize("space", [SPACE, STRICT])
def test_discretize_is_the_best_valid_pair_of_each_node(space):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(16, 35, generator=generator)
    scores[:, :7] += 2.0  # both slots want the first predecessor
    found = space.discretize(scores.tolist())
    assert space.is_valid(found)
    for e, node in enumerate([*NODES, *NODES]):
        options = node_options(node)
        best = max(
            scores[2 * e, a] + scores[2 * e + 1, b]
            for a, b in product(range(len(options)), repeat=2)
            if a != b and (space is SPACE or options[a].source != options[b].source)
        )
        a, b = found.choices[2 * e : 2 * e + 2]
        assert scores[2 * e, a] + scores[2 * e + 1, b] == best


def test_rule_of_the_paper_keeps_the_two_strongest_edges_and_never_none():
    weights = [[0.0] * len(PRIMITIVES) for _ in EDGES]
    for row in weights:
        row[PRIMITIVES.index("none")] = 9.0
    for edge, op, weight in (
        ((1, 2), "sep_conv_3x3", 0.4),
        ((0, 2), "skip_connect", 0.3),
        ((2, 3), "dil_conv_5x5", 0.9),
        ((0, 3), "max_pool_3x3", 0.2),
        ((1, 3), "max_pool_3x3", 0.1),
        ((3, 4), "avg_pool_3x3", 0.5),
        ((1, 4), "sep_conv_5x5", 0.6),
        ((4, 5), "dil_conv_3x3", 0.7),
        ((3, 5), "skip_connect", 0.8),
    ):
        weights[EDGES.index(edge)][PRIMITIVES.index(op)] = weight
    cell = darts_rule(weights)
    assert [(op.op, op.source) for op in cell] == [
        *(("sep_conv_3x3", 1), ("skip_connect", 0)),
        *(("dil_conv_5x5", 2), ("max_pool_3x3", 0)),
        *(("sep_conv_5x5", 1), ("avg_pool_3x3", 3)),
        *(("skip_connect", 3), ("dil_conv_3x3", 4)),
    ]
    arch = architecture_of(cell, cell)
    assert STRICT.is_valid(arch)
    assert cells_of(arch.choices) == {"normal": cell, "reduce": cell}


def test_edge_weights_are_the_sums_of_both_slots():
    slots = torch.rand(16, 35, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slots *= torch.tensor(SPACE.option_mask)
    edges = edge_weights(slots)
    for kind, first_row in (("normal", 0), ("reduce", 8)):
        assert edges[kind].shape == (14, 8)
        assert (edges[kind][:, 0] == 0).all()
        for n, node in enumerate(NODES):
            for o, option in enumerate(node_options(node)):
                got = edges[kind][EDGES.index((option.source, node)), PRIMITIVES.index(option.op)]
                assert got == slots[first_row + 2 * n, o] + slots[first_row + 2 * n + 1, o]


def test_reductions_lie_at_one_and_two_thirds():
    assert [i for i, kind in enumerate(cell_kinds(20)) if kind == "reduce"] == [6, 13]
    assert [i for i, kind in enumerate(cell_kinds(5)) if kind == "reduce"] == [1, 3]
    with pytest.raises(InvalidOptionError, match="cells"):
        SPACE.cost(SPACE.parse(DARTS_V2), cifar(num_cells=2))


def test_a_cell_that_skips_its_neighbor_leaves_every_other_cell_dead():
    kinds = cell_kinds(6)
    reads = {"normal": {0}, "reduce": {0}}
    assert live_outputs(kinds, reads) == {5, 3, 1, -1}
    assert live_outputs(kinds, {"normal": {1}, "reduce": {1}}) == {5, 4, 3, 2, 1, 0, -1}


@pytest.mark.parametrize(("skeleton", "side"), [("cifar", 8), ("imagenet", 32)])
@pytest.mark.parametrize("reads", list(product(READS, repeat=2)))
def test_networks_without_dead_cells_equal_the_supernet_and_cost_what_they_hold(skeleton, side, reads):
    normal, reduce = reads
    arch = architecture_of(pooling_cell(*normal), pooling_cell(*reduce))
    macro = Macro(skeleton=skeleton, num_channels=2, num_cells=6, num_classes=2, image_size=side)
    supernet = build_supernet("darts", macro).double()
    network = build_network(arch, macro).double()
    inherit(network, dict(supernet.named_parameters()))
    images = torch.randn(3, 3, side, side, dtype=torch.float64)
    logits = network(images)
    torch.testing.assert_close(logits, supernet(images, arch), rtol=1e-9, atol=1e-9)
    logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    cost = SPACE.cost(arch, macro)
    assert cost.params == sum(p.numel() for p in network.parameters())
    least = SPACE.minimum_cost(macro)
    assert least.params <= cost.params
    assert least.macs <= cost.macs


@pytest.mark.parametrize("skeleton", ["cifar", "imagenet"])
def test_the_minimum_is_reached(skeleton):
    macro = Macro(skeleton=skeleton, num_channels=4, num_cells=6, num_classes=2, image_size=32)
    archs = [architecture_of(pooling_cell(*a), pooling_cell(*b)) for a, b in product(READS, repeat=2)]
    costs = [SPACE.cost(arch, macro) for arch in archs]
    least = SPACE.minimum_cost(macro)
    assert least.params in {cost.params for cost in costs}
    assert least.macs in {cost.macs for cost in costs}
    strict = STRICT.minimum_cost(macro)
    assert strict == costs[0]


def test_a_cell_is_the_concatenation_of_its_nodes():
    skips = tuple(
        EdgeOp(s, n, "skip_connect")
        for n, pair in zip(NODES, [(0, 1), (1, 2), (2, 3), (0, 4)], strict=True)
        for s in pair
    )
    network = build_network(architecture_of(skips, skips), cifar(num_channels=4, num_cells=3)).double()
    cell = network.body.cells["0"]
    before, last = (torch.randn(2, 12, 8, 8, dtype=torch.float64) for _ in range(2))
    s0, s1 = cell.preprocess_0(before), cell.preprocess_1(last)
    s2 = s0 + s1
    s3 = s1 + s2
    s4 = s2 + s3
    expected = torch.cat([s2, s3, s4, s0 + s4], dim=1)
    [route, _] = network.body.routes(network.architecture).values()
    torch.testing.assert_close(cell.run(before, last, route), expected)


@pytest.mark.parametrize("reads", READS[:2])
@pytest.mark.parametrize(("skeleton", "image_size"), [("cifar", 32), ("cifar", 40), ("imagenet", 224)])
def test_auxiliary_head(skeleton, image_size, reads):
    arch = architecture_of(pooling_cell(*reads), pooling_cell(*reads))
    size = {"skeleton": skeleton, "image_size": image_size, "num_channels": 4, "num_cells": 7}
    plain, macro = cifar(**size), cifar(**size, auxiliary=True)
    network = build_network(arch, macro)
    logits, auxiliary_logits = network.forward_with_auxiliary(torch.randn(2, 3, image_size, image_size))
    assert logits.shape == auxiliary_logits.shape == (2, 10)
    head = {name: p for name, p in network.named_parameters() if name.startswith("body.auxiliary")}
    channels = 4 * 4 * 4
    second_norm = 2 * 768 if skeleton == "cifar" else 0
    expected = channels * 128 + 2 * 128 + 128 * 768 * 4 + second_norm + 768 * 10 + 10
    assert sum(p.numel() for p in head.values()) == expected
    # It serves training only, so it is not part of the cost.
    assert SPACE.cost(arch, macro) == SPACE.cost(arch, plain)
    # What it has no ancestor for, it keeps.
    inherit(network, dict(build_supernet("darts", plain).named_parameters()))


def test_an_auxiliary_head_needs_room_and_must_have_been_built():
    arch = SPACE.parse(DARTS_V2)
    with pytest.raises(InvalidOptionError, match="auxiliary"):
        build_network(arch, cifar(image_size=16, num_channels=4, num_cells=5, auxiliary=True))
    network = build_network(arch, cifar(num_channels=4, num_cells=3))
    with pytest.raises(InvalidOptionError, match="auxiliary"):
        network.forward_with_auxiliary(torch.randn(2, 3, 32, 32))


def test_imagenet_skeleton_refuses_small_images_and_single_channels():
    arch = SPACE.parse(DARTS_V2)
    for changes, word in (({"image_size": 31}, "image size"), ({"num_channels": 1}, "channels")):
        with pytest.raises(InvalidOptionError, match=word):
            SPACE.cost(arch, cifar(**{"skeleton": "imagenet", **changes}))


def test_weights_of_zero_everywhere_are_refused():
    supernet = build_supernet("darts", cifar(num_channels=2, num_cells=3))
    with pytest.raises(InvalidOptionError, match="simplex"):
        supernet(torch.randn(2, 3, 32, 32), torch.zeros(16, 35))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda cell: cell[:7], "slots of the reduce cell"),
        (lambda cell: [["none", 0], *cell[1:]], "none"),
        (lambda cell: [["max_pool_3x3", 2], *cell[1:]], "predecessor of node 2"),
        (lambda cell: [["max_pool_3x3", True], *cell[1:]], "predecessor of node 2"),
        (lambda cell: [["max_pool_3x3", "1"], *cell[1:]], "predecessor of node 2"),
        (lambda cell: [["max_pool_3x3"], *cell[1:]], "slot of the reduce cell"),
        (lambda cell: "cell", "slots of the reduce cell"),
    ],
)
def test_errors_of_the_json_form_say_where(change, word):
    with pytest.raises(InvalidArchitectureError, match=word):
        SPACE.parse({**DARTS_V2, "reduce": change(DARTS_V2["reduce"])})


def test_ops_have_no_batch_norm_after_pooling_and_two_in_separable_convolutions():
    network = build_network(SPACE.parse(BASE_CIFAR), cifar(num_channels=4, num_cells=3))
    kinds = {
        op: [type(layer).__name__ for layer in module]
        for cell in network.body.cells.values()
        for edge in cell.edges.values()
        for op, module in edge.items()
    }
    assert kinds["max_pool_3x3"] == ["MaximumPooling"]
    assert kinds["dil_conv_3x3"] == ["ReLU", "DepthwiseConv2d", "Conv2d", "BatchNorm2d"]
    assert kinds["sep_conv_5x5"] == kinds["dil_conv_3x3"] * 2
    assert set(kinds) <= set(OPS)
