"""The network around the chain of the mobile space, as data, for images of 16 to 64 pixels.

A 3x3 stem, four stages of C, 2C, 3C and 4C channels, of which all but the third halve the side, a 1x1 convolution to
8C, global average pooling and the classifier. `num_cells` times the layers of a stage after its first follow each
other, as MnasNet (Tan et al., CVPR 2019) repeats a stage's choice: more depth for the same decisions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from search_spaces.cells import Part
from search_spaces.cost import layers_cost, total_cost
from search_spaces.errors import InvalidOptionError
from search_spaces.layers import BatchNorm, Conv, GlobalAvgPool, Layers, Linear, ReLU
from search_spaces.mobile.chain import NUM_LAYERS, op_layers
from search_spaces.spec import Cost, Macro

WIDTHS: Final = (1, 2, 3, 4)
STRIDES: Final = (2, 2, 1, 2)
HEAD_WIDTH: Final = 8


@dataclass(frozen=True)
class ChainLayer:
    """One layer of the network: which decision it follows, and its ops with their layers."""

    decision: int
    ops: tuple[tuple[str, Part], ...]

    @property
    def cost(self) -> Cost:
        return total_cost(part.cost for _, part in self.ops)


@dataclass(frozen=True)
class Plan:
    """A whole network, but for its classifier."""

    stem: Part
    layers: tuple[ChainLayer, ...]
    tail: Part
    num_features: int


def plan_network(macro: Macro, ops: Sequence[Sequence[str]]) -> Plan:
    """Return the plan of a network.

    Args:
        macro: The skeleton.
        ops: Of each decision, all ops that its layers hold.

    Raises:
        InvalidOptionError: The space has no such skeleton, or no auxiliary head.
    """
    if macro.skeleton != "cifar":
        raise InvalidOptionError("skeleton of mobile", got=macro.skeleton, expected="cifar")
    if macro.auxiliary:
        raise InvalidOptionError("auxiliary head of mobile", got=True, expected="false: the space has none")
    channels, side = macro.num_channels, macro.image_size
    stem = Part(_conv_bn_relu(macro.image_channels, channels, 3), side)
    layers: list[ChainLayer] = []
    for stage, (width, stride) in enumerate(zip(WIDTHS, STRIDES, strict=True)):
        first, *others = range(NUM_LAYERS * stage, NUM_LAYERS * (stage + 1))
        wide = width * macro.num_channels
        layers.append(_layer(first, ops[first], channels, wide, stride, side))
        channels, side = wide, -(-side // stride)
        same = [_layer(decision, ops[decision], channels, channels, 1, side) for decision in others]
        layers += same * macro.num_cells
    features = HEAD_WIDTH * macro.num_channels
    tail = Part((*_conv_bn_relu(channels, features, 1), GlobalAvgPool()), side)
    return Plan(stem, tuple(layers), tail, features)


def plan_cost(plan: Plan, num_classes: int) -> Cost:
    """Return the cost of the network with its classifier, for one image."""
    classifier = layers_cost((Linear(plan.num_features, num_classes),), 1)
    return total_cost([plan.stem.cost, *(layer.cost for layer in plan.layers), plan.tail.cost, classifier])


def _conv_bn_relu(in_channels: int, out_channels: int, kernel: int) -> Layers:
    return (Conv(in_channels, out_channels, kernel, padding=kernel // 2), BatchNorm(out_channels), ReLU())


def _layer(
    decision: int, ops: Sequence[str], in_channels: int, out_channels: int, stride: int, side: int
) -> ChainLayer:
    parts = ((op, Part(op_layers(op, in_channels, out_channels, stride), side)) for op in ops)
    return ChainLayer(decision, tuple(parts))
