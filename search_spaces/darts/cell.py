"""The cells of DARTS: two inputs, four nodes, two (op, predecessor) pairs per node.

Nodes are numbered 0 and 1 (outputs of the two cells before), then 2 to 5 (computed); the cell's output is the
concatenation of the computed ones. One cell is `normal`, the other, of stride 2, is `reduce`.

Source: Liu, Simonyan and Yang, DARTS, ICLR 2019; names of the ops as there.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal

from search_spaces.cells import Edge, EdgeOp
from search_spaces.layers import (
    IDENTITY,
    AvgPool,
    BatchNorm,
    Conv,
    FactorizedReduce,
    Layers,
    MaxPool,
    ReLU,
)

Kind = Literal["normal", "reduce"]

NAME: Final = "darts"
NONE: Final = "none"
PRIMITIVES: Final = (
    NONE,
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
OPS: Final = PRIMITIVES[1:]
KINDS: Final[tuple[Kind, ...]] = ("normal", "reduce")
NUM_INPUTS: Final = 2
NODES: Final = range(2, 6)
SLOTS: Final = 2
EDGES: Final[tuple[Edge, ...]] = tuple((source, node) for node in NODES for source in range(node))

CellOps = tuple[EdgeOp, ...]
ALL_OPS: Final[CellOps] = tuple(EdgeOp(*edge, op) for edge in EDGES for op in OPS)


def node_options(node: int) -> tuple[EdgeOp, ...]:
    """Return what a slot of a node may hold: every op of every predecessor, predecessors first to last."""
    return tuple(EdgeOp(source, node, op) for source in range(node) for op in OPS)


def cell_ops(choices: Sequence[int]) -> CellOps:
    """Return the ops of one cell, slot by slot, for its eight choices."""
    nodes = [node for node in NODES for _ in range(SLOTS)]
    return tuple(node_options(node)[choice] for node, choice in zip(nodes, choices, strict=True))


def cells_of(choices: Sequence[int]) -> dict[Kind, CellOps]:
    """Return the ops of both cells for an architecture's sixteen choices."""
    half = len(choices) // 2
    return {"normal": cell_ops(choices[:half]), "reduce": cell_ops(choices[half:])}


def stride_of(op: EdgeOp, kind: Kind) -> int:
    """Return the stride of an op: 2 where a reduction cell reads its inputs."""
    return 2 if kind == "reduce" and op.source < NUM_INPUTS else 1


@lru_cache(maxsize=1024)
def op_layers(op: str, channels: int, stride: int) -> Layers:
    """Return the layers of an op other than `none`."""
    match op:
        case "max_pool_3x3":
            return (MaxPool(3, stride, padding=1),)
        case "avg_pool_3x3":
            return (AvgPool(3, stride, padding=1),)
        case "skip_connect":
            return IDENTITY if stride == 1 else factorized_reduce(channels, channels)
        case "sep_conv_3x3" | "sep_conv_5x5":
            kernel = int(op[-1])
            return _separable(channels, kernel, stride) + _separable(channels, kernel, 1)
        case _:
            return _separable(channels, int(op[-1]), stride, dilation=2)


def factorized_reduce(in_channels: int, out_channels: int) -> Layers:
    """Return ReLU, two shifted 1x1 convolutions of stride 2, batch norm."""
    return (ReLU(), FactorizedReduce(in_channels, out_channels), BatchNorm(out_channels))


def _separable(channels: int, kernel: int, stride: int, dilation: int = 1) -> Layers:
    """Return ReLU, a depthwise convolution, a 1x1 convolution, batch norm."""
    padding = dilation * (kernel // 2)
    depthwise = Conv(channels, channels, kernel, stride, padding, dilation, groups=channels)
    return (ReLU(), depthwise, Conv(channels, channels, 1), BatchNorm(channels))
