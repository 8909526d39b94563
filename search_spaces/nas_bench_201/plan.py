"""The network around a NAS-Bench-201 cell, as data.

A stem, three stages of `num_cells` cells with C, 2C and 4C channels, a residual block of stride 2 before the second
and the third stage, then batch norm, ReLU, global average pooling and the classifier.

Source: AutoDL-Projects, `TinyNetwork` and `ResNetBasicblock`.
"""

from dataclasses import dataclass

from search_spaces.cells import EdgeOp, Part
from search_spaces.cost import layers_cost, total_cost
from search_spaces.errors import InvalidOptionError
from search_spaces.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    GlobalAvgPool,
    Linear,
    ReLU,
    relu_conv_bn,
    side_after,
)
from search_spaces.nas_bench_201.cell import CellOps, op_layers
from search_spaces.spec import Cost, Macro

NUM_STAGES = 3


@dataclass(frozen=True)
class Cell:
    """A searched cell: its ops with their layers, all of stride 1."""

    ops: tuple[tuple[EdgeOp, Part], ...]

    @property
    def cost(self) -> Cost:
        return total_cost(part.cost for _, part in self.ops)


@dataclass(frozen=True)
class Residual:
    """A fixed block that halves the side: `main(x) + shortcut(x)`."""

    main: Part
    shortcut: Part

    @property
    def cost(self) -> Cost:
        return self.main.cost + self.shortcut.cost


@dataclass(frozen=True)
class Plan:
    """A whole network, but for its classifier."""

    stem: Part
    blocks: tuple[Cell | Residual, ...]
    tail: Part
    num_features: int


def plan_network(macro: Macro, ops: CellOps) -> Plan:
    """Return the plan of a network whose cells have the given ops.

    Raises:
        InvalidOptionError: The space has no such skeleton, or no auxiliary head.
    """
    if macro.skeleton != "cifar":
        raise InvalidOptionError("skeleton of nas_bench_201", got=macro.skeleton, expected="cifar")
    if macro.auxiliary:
        raise InvalidOptionError("auxiliary head of nas_bench_201", got=True, expected="false: the space has none")
    channels, side = macro.num_channels, macro.image_size
    stem = Part((Conv(macro.image_channels, channels, 3, padding=1), BatchNorm(channels)), side)
    blocks: list[Cell | Residual] = []
    for stage in range(NUM_STAGES):
        if stage > 0:
            block = _residual(channels, side)
            blocks.append(block)
            channels, side = 2 * channels, side_after(block.main.layers, side)
        cell = Cell(tuple((op, Part(op_layers(op.op, channels), side)) for op in ops))
        blocks.extend([cell] * macro.num_cells)
    tail = Part((BatchNorm(channels), ReLU(), GlobalAvgPool()), side)
    return Plan(stem, tuple(blocks), tail, channels)


def plan_cost(plan: Plan, num_classes: int) -> Cost:
    """Return the cost of the network with its classifier, for one image."""
    classifier = layers_cost((Linear(plan.num_features, num_classes),), 1)
    return total_cost([plan.stem.cost, *(block.cost for block in plan.blocks), plan.tail.cost, classifier])


def _residual(channels: int, side: int) -> Residual:
    wide = 2 * channels
    main = relu_conv_bn(channels, wide, 3, stride=2) + relu_conv_bn(wide, wide, 3)
    # Ceil mode only matters at odd sides, which the benchmark does not have.
    shortcut = (AvgPool(2, 2, ceil=True), Conv(channels, wide, 1))
    return Residual(Part(main, side), Part(shortcut, side))
