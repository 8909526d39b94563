"""Torch modules from layers as data, and their initial weights."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.depthwise import DepthwiseConv2d, gains
from search_spaces.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    FactorizedReduce,
    GlobalAvgPool,
    Layer,
    Layers,
    Linear,
    MaxPool,
    ReLU,
    Residual,
    SqueezeExcite,
)
from search_spaces.pooling import AveragePooling, MaximumPooling


class FactorizedReduction(nn.Module):
    """The module of `layers.FactorizedReduce`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv_1 = nn.Conv2d(in_channels, half, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(in_channels, out_channels - half, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, out_channels, ceil(H / 2), ceil(W / 2)]."""
        shifted = F.pad(x, (-1, 1, -1, 1))
        return torch.cat((self.conv_1(x), self.conv_2(shifted)), dim=1)


class GlobalAveragePooling(nn.Module):
    """The module of `layers.GlobalAvgPool`."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C] for [N, C, H, W]."""
        return x.mean(dim=(2, 3))


class SqueezeExcitation(nn.Module):
    """The module of `layers.SqueezeExcite`."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, H, W] for the same shape."""
        means = x.mean(dim=(2, 3), keepdim=True)
        return x * F.hardsigmoid(self.excite(F.relu(self.squeeze(means))))


class ResidualBranch(nn.Module):
    """The module of `layers.Residual`."""

    def __init__(self, branch: nn.Sequential) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, H, W] for the same shape."""
        total: Tensor = x + self.branch(x)
        return total


def build_layers(layers: Layers, *, track_statistics: bool) -> nn.Sequential:
    """Return the modules of `layers`; a parameter is named by its layer's position.

    Args:
        layers: The op or part as data.
        track_statistics: Whether batch norm keeps running statistics and uses them in evaluation mode. Without,
            it always uses the statistics of its batch.
    """
    return nn.Sequential(*(_build(layer, track_statistics) for layer in layers))


def _build(layer: Layer, track_statistics: bool) -> nn.Module:
    match layer:
        case ReLU():
            return nn.ReLU()
        case Conv():
            return (DepthwiseConv2d if gains(layer) else nn.Conv2d)(
                layer.in_channels,
                layer.out_channels,
                layer.kernel,
                layer.stride,
                layer.padding,
                layer.dilation,
                layer.groups,
                bias=False,
            )
        case BatchNorm():
            return nn.BatchNorm2d(layer.channels, track_running_stats=track_statistics)
        case AvgPool():
            return AveragePooling(layer)
        case MaxPool():
            return MaximumPooling(layer)
        case FactorizedReduce():
            return FactorizedReduction(layer.in_channels, layer.out_channels)
        case GlobalAvgPool():
            return GlobalAveragePooling()
        case Linear():
            return nn.Linear(layer.in_features, layer.out_features)
        case SqueezeExcite():
            return SqueezeExcitation(layer.channels, layer.squeezed)
        case Residual():
            return ResidualBranch(build_layers(layer.layers, track_statistics=track_statistics))


def initialize(module: nn.Module, generator: torch.Generator | None) -> None:
    """Give memory to a module built on the meta device, and draw all weights.

    Convolutions: Kaiming normal by fan-out, and 0 for biases. Linear layers: uniform, as torch does. Batch norm: 1 and
    0.

    Args:
        module: Changed in place; on the CPU afterwards.
        generator: Of all draws. None: torch's global one.
    """
    module.to_empty(device="cpu")
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            # A grouped convolution's unit feeds only its own group: torch's own fan-out ignores that.
            fan_out = part.out_channels // part.groups * math.prod(part.kernel_size)
            nn.init.normal_(part.weight, 0.0, math.sqrt(2.0 / fan_out), generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear):
            bound = 1.0 / math.sqrt(part.in_features)
            nn.init.uniform_(part.weight, -bound, bound, generator=generator)
            nn.init.uniform_(part.bias, -bound, bound, generator=generator)
        elif isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()
