"""Layers as data. An op is a tuple of them: torch modules are built from it, its cost is counted on it.

So what is counted is what runs. The identity is the empty tuple; `none` is no op at all.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReLU:
    """The larger of 0 and x."""


@dataclass(frozen=True)
class Conv:
    """A square convolution without bias."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalization with a learned scale and shift per channel."""

    channels: int


@dataclass(frozen=True)
class Pool:
    """The base of both poolings; padding never enters the result. A partial last window counts (ceil mode)."""

    kernel: int
    stride: int
    padding: int = 0
    ceil: bool = False


@dataclass(frozen=True)
class AvgPool(Pool):
    """The mean over each window, without its padding."""


@dataclass(frozen=True)
class MaxPool(Pool):
    """The largest value of each window."""


@dataclass(frozen=True)
class FactorizedReduce:
    """Halves the side: two 1x1 convolutions of stride 2, the second one shifted by a pixel, side by side.

    At odd sides the second one reads zeros beyond the edge, so that both halves have ceil(side / 2) positions.
    """

    in_channels: int
    out_channels: int


@dataclass(frozen=True)
class GlobalAvgPool:
    """The mean over all positions: [N, C, H, W] to [N, C]."""


@dataclass(frozen=True)
class Linear:
    """A linear layer with bias."""

    in_features: int
    out_features: int


@dataclass(frozen=True)
class SqueezeExcite:
    """Scales each channel by a number in 0..1 that the means of all channels decide, by way of `squeezed` units.

    Two 1x1 convolutions with bias on one position: ReLU after the first, hard sigmoid after the second.
    """

    channels: int
    squeezed: int


@dataclass(frozen=True)
class Residual:
    """Adds its input to what layers make of it; they keep its shape."""

    layers: "Layers"


Layer = (
    ReLU | Conv | BatchNorm | AvgPool | MaxPool | FactorizedReduce | GlobalAvgPool | Linear | SqueezeExcite | Residual
)
Layers = tuple[Layer, ...]
IDENTITY: Layers = ()


def relu_conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> Layers:
    """Return ReLU, a convolution that keeps the side (over its stride), batch norm."""
    conv = Conv(in_channels, out_channels, kernel, stride, padding=kernel // 2)
    return (ReLU(), conv, BatchNorm(out_channels))


def side_after(layers: Layers, side: int) -> int:
    """Return the side of the output, in pixels, for an input of `side` pixels."""
    for layer in layers:
        match layer:
            case Conv():
                reach = layer.dilation * (layer.kernel - 1) + 1
                side = (side + 2 * layer.padding - reach) // layer.stride + 1
            case Pool():
                span = side + 2 * layer.padding - layer.kernel
                side = (-(-span // layer.stride) if layer.ceil else span // layer.stride) + 1
            case FactorizedReduce():
                side = -(-side // 2)
            case GlobalAvgPool():
                side = 1
    return side
