"""How deep architectures are: ops with weights on the longest and the shortest way."""

import pytest

from search_spaces.cells import EdgeOp, depth_of
from search_spaces.errors import InvalidArchitectureError
from search_spaces.registry import SPACES
from search_spaces.spec import Depth


@pytest.mark.parametrize(
    ("cell", "longest", "shortest"),
    [
        ("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|", 3, 0),
        ("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_1x1~1|none~2|", 2, 2),
        ("|avg_pool_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|", 2, 1),
        ("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|", 0, 0),  # all but one dead
    ],
)
def test_a_cell_of_nas_bench_201_is_as_deep_as_its_ways(cell: str, longest: int, shortest: int) -> None:
    space = SPACES["nas_bench_201"]
    assert space.depth(space.parse(cell)) == Depth(longest=longest, shortest=shortest)


def test_a_cell_without_a_way_has_no_depth() -> None:
    space = SPACES["nas_bench_201"]
    with pytest.raises(InvalidArchitectureError, match="no way"):
        space.depth(space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"))


def test_a_darts_architecture_has_the_mean_depth_of_its_cells() -> None:
    space = SPACES["darts"]
    chain = "|sep_conv_3x3~0|skip_connect~1|+" + "+".join(f"|sep_conv_3x3~{n}|skip_connect~0|" for n in (2, 3, 4))
    flat = "+".join(["|skip_connect~0|skip_connect~1|"] * 4)
    pools = "+".join(["|max_pool_3x3~0|sep_conv_5x5~1|"] * 4)
    assert space.depth(space.parse(f"normal:{chain};reduce:{pools}")) == Depth(longest=2.5, shortest=0)
    assert space.depth(space.parse(f"normal:{pools};reduce:{pools}")).longest == 1
    with pytest.raises(InvalidArchitectureError):
        space.depth(space.parse(f"normal:{flat};reduce:{pools}".replace("skip_connect~1", "skip_connect~0")))


def test_a_mobile_architecture_is_as_deep_as_it_has_blocks() -> None:
    space = SPACES["mobile"]
    (cheapest,) = space.cheapest()
    assert space.depth(cheapest) == Depth(longest=4, shortest=4)


def test_every_valid_architecture_has_a_depth(space, draw_architectures) -> None:
    for arch in draw_architectures(space, 50):
        depth = space.depth(arch)
        assert 0 <= depth.shortest <= depth.longest <= space.num_decisions


def test_only_ways_from_an_input_count() -> None:
    ops = [EdgeOp(0, 2, "sep_conv_3x3"), EdgeOp(2, 3, "skip_connect"), EdgeOp(1, 3, "sep_conv_3x3")]
    assert depth_of(ops, inputs=(0,), outputs=(3,)) == Depth(longest=1, shortest=1)
    assert depth_of(ops, inputs=(0, 1), outputs=(2, 3)) == Depth(longest=1, shortest=1)
    assert depth_of([*ops, EdgeOp(0, 3, "avg_pool_3x3")], inputs=(0, 1), outputs=(3,)).shortest == 0
