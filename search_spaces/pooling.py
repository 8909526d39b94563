"""Poolings; those of stride 1 by the CPU's fast operations, where images are large enough for that to pay.

torch's own poolings visit each window on its own. The mean over a window is a depthwise convolution with ones, divided
by how many pixels of the window are inside the image. The maximum over a window is that over its columns, then over its
rows: whole images are compared at a time. On images of 16 channels at 32x32 both take a quarter of the time.

Only in training mode: an exported graph holds the plain poolings.
"""

from functools import reduce
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.layers import AvgPool, MaxPool, Pool

SMALLEST: Final = 16  # side in pixels from which on it pays


class AveragePooling(nn.Module):
    """The module of `layers.AvgPool`."""

    def __init__(self, layer: AvgPool) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, H', W'] for [N, C, H, W]."""
        kernel, padding = self.layer.kernel, self.layer.padding
        if not (self.training and _pays(self.layer, x)):
            return F.avg_pool2d(x, kernel, self.layer.stride, padding, self.layer.ceil, count_include_pad=False)
        window = x.new_ones(1, 1, kernel, kernel)
        counts = F.conv2d(x.new_ones(1, 1, *x.shape[2:]), window, padding=padding)
        sums = F.conv2d(x, window.expand(x.shape[1], 1, -1, -1), padding=padding, groups=x.shape[1])
        return sums / counts


class MaximumPooling(nn.Module):
    """The module of `layers.MaxPool`.

    With a gradient it is torch's own: of equal values the first gets all of it, which `torch.maximum` would share out.
    """

    def __init__(self, layer: MaxPool) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, H', W'] for [N, C, H, W]."""
        kernel, padding = self.layer.kernel, self.layer.padding
        if torch.is_grad_enabled() or not (self.training and _pays(self.layer, x)):
            return F.max_pool2d(x, kernel, self.layer.stride, padding, ceil_mode=self.layer.ceil)
        wide = F.pad(x, (padding,) * 4, value=float("-inf"))
        for axis in (3, 2):
            length = wide.shape[axis] - kernel + 1
            wide = reduce(torch.maximum, [wide.narrow(axis, start, length) for start in range(kernel)])
        return wide


def _pays(layer: Pool, x: Tensor) -> bool:
    return layer.stride == 1 and x.device.type == "cpu" and min(x.shape[2:]) >= SMALLEST
