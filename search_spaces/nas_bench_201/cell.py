"""The cell of NAS-Bench-201: four nodes, an op on each of the six edges between them.

Source: Dong and Yang, NAS-Bench-201, ICLR 2020; names and index order of the ops as in AutoDL-Projects.
"""

from typing import Final

from search_spaces.cells import Edge, EdgeOp, live_edges
from search_spaces.layers import IDENTITY, AvgPool, Layers, relu_conv_bn

NAME: Final = "nas_bench_201"
NONE: Final = "none"
OPS: Final = (NONE, "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES: Final[tuple[Edge, ...]] = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OUTPUT: Final = 3

CellOps = tuple[EdgeOp, ...]

ALL_OPS: Final[CellOps] = tuple(EdgeOp(*edge, op) for edge in EDGES for op in OPS if op != NONE)

# Every way from the input to the output, as edges.
PATHS: Final[tuple[tuple[Edge, ...], ...]] = (
    ((0, 3),),
    ((0, 1), (1, 3)),
    ((0, 2), (2, 3)),
    ((0, 1), (1, 2), (2, 3)),
)


def op_layers(op: str, channels: int) -> Layers:
    """Return the layers of an op other than `none`."""
    return {
        "skip_connect": IDENTITY,
        "nor_conv_1x1": relu_conv_bn(channels, channels, 1),
        "nor_conv_3x3": relu_conv_bn(channels, channels, 3),
        "avg_pool_3x3": (AvgPool(3, 1, padding=1),),
    }[op]


def live_ops(choices: tuple[int, ...]) -> CellOps:
    """Return the ops that lie on a way from the input to the output; none of them where there is no way."""
    ops = [EdgeOp(*edge, OPS[choice]) for edge, choice in zip(EDGES, choices, strict=True) if OPS[choice] != NONE]
    live = live_edges([(op.source, op.target) for op in ops], inputs=(0,), outputs=(OUTPUT,))
    return tuple(op for op in ops if (op.source, op.target) in live)
