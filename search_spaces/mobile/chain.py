"""The chain of the mobile space: four stages of three layers, each an inverted residual block or the identity.

The first layer of a stage changes width and mostly side, so it is always a block; the others may be left out.

Source: Sandler et al., MobileNetV2, CVPR 2018 (the block); Howard et al., MobileNetV3, ICCV 2019 (squeeze-excitation,
its width and place); Cai, Zhu and Han, ProxylessNAS, ICLR 2019 (kernels, expansions, identity). All activations are
ReLU, as in the lower half of MobileNetV3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from search_spaces.layers import IDENTITY, BatchNorm, Conv, Layers, ReLU, Residual, SqueezeExcite

NAME: Final = "mobile"
NUM_STAGES: Final = 4
NUM_LAYERS: Final = 3
"""Layers of a stage that are decided on."""
SKIP: Final = "skip_connect"
SQUEEZE: Final = 4
DIVISOR: Final = 8


@dataclass(frozen=True)
class Block:
    """What is chosen of an inverted residual block.

    Attributes:
        kernel: Side of the depthwise convolution, in pixels.
        expansion: Channels between the two 1x1 convolutions, in channels of the input.
        squeeze: Whether squeeze-excitation follows the depthwise convolution.
    """

    kernel: int
    expansion: int
    squeeze: bool

    @property
    def name(self) -> str:
        """The op's name, such as `mbconv_k3_e6_se`."""
        return f"mbconv_k{self.kernel}_e{self.expansion}{'_se' if self.squeeze else ''}"


KERNELS: Final = (3, 5, 7)
EXPANSIONS: Final = (3, 6)
BLOCKS: Final = {
    block.name: block
    for squeeze in (False, True)
    for kernel in KERNELS
    for expansion in EXPANSIONS
    for block in (Block(kernel, expansion, squeeze),)
}
OPS: Final = (*BLOCKS, SKIP)
LAYERS: Final = tuple((stage, layer) for stage in range(1, NUM_STAGES + 1) for layer in range(1, NUM_LAYERS + 1))
"""All decisions: stage and layer, both from 1."""


def layer_options(layer: int) -> tuple[str, ...]:
    """Return the ops that layer number `layer` of a stage may hold."""
    return tuple(BLOCKS) if layer == 1 else OPS


def ops_of(choices: Sequence[int]) -> tuple[str, ...]:
    """Return the op of each layer of the chain."""
    return tuple(OPS[choice] for choice in choices)


@lru_cache(maxsize=1024)
def op_layers(op: str, in_channels: int, out_channels: int, stride: int) -> Layers:
    """Return the layers of an op.

    A block expands, convolves each channel on its own, and projects, without an activation at its end. It is added to
    its input where the shapes agree.
    """
    if op == SKIP:
        return IDENTITY
    block = BLOCKS[op]
    inner = block.expansion * in_channels
    expand = (Conv(in_channels, inner, 1), BatchNorm(inner), ReLU())
    depthwise = Conv(inner, inner, block.kernel, stride, padding=block.kernel // 2, groups=inner)
    excite: Layers = (SqueezeExcite(inner, squeezed_channels(inner)),) if block.squeeze else ()
    project = (Conv(inner, out_channels, 1), BatchNorm(out_channels))
    layers: Layers = (*expand, depthwise, BatchNorm(inner), ReLU(), *excite, *project)
    return (Residual(layers),) if stride == 1 and in_channels == out_channels else layers


def squeezed_channels(channels: int) -> int:
    """Return the units of a squeeze-excitation: a quarter of the channels, to the nearest multiple of 8, at least 8.

    Where that takes off more than a tenth, the next multiple: the rule of MobileNetV3.
    """
    quarter = channels // SQUEEZE
    rounded = max(DIVISOR, (quarter + DIVISOR // 2) // DIVISOR * DIVISOR)
    return rounded if rounded >= 0.9 * quarter else rounded + DIVISOR
