"""Depthwise convolutions whose gradients take the CPU's fast kernels.

| symbol | meaning | in code |
|---|---|---|
| x | input, [N, C, H, W] | `x` |
| w | one k x k kernel for each channel, [C, 1, k, k] | `weight` |
| g | gradient of the loss by the output, [N, C, H', W'] | `gradient` |

oneDNN has a depthwise kernel for the gradient of w only where w is at most three columns wide and not dilated. All
others it takes for grouped convolutions whose groups it pads to 16 channels, or for a matrix product a channel: 5 to 30
times slower than the forward pass. What is computed here instead is the same sum, in another order:

- the gradient of x, at stride 1, is g convolved with w turned by half a turn;
- the gradient of w is that of its columns, three at a time, each on the columns of x that it meets;
- with dilation 2, pixels of even and odd rows and columns never meet: four images of half the side, dilation 1;
- with dilation 2 and stride 2, only one of these four is ever read: the convolution is one of stride 1 on it.

Backward passes are made of differentiable operations, so the second derivative is there for unrolled inner loops.
"""

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.layers import Conv

WIDEST: Final = 3  # columns of a kernel whose gradient has a fast kernel
PAIR: Final = 2

_convolution_backward = torch.ops.aten.convolution_backward


def gains(layer: Conv) -> bool:
    """Return whether `DepthwiseConv2d` computes the gradients of a convolution faster than torch does."""
    is_depthwise = layer.groups == layer.in_channels == layer.out_channels > 1
    keeps_side = layer.kernel % 2 == 1 and layer.padding == layer.dilation * (layer.kernel // 2)
    is_slow = layer.kernel > WIDEST or layer.dilation == PAIR
    return is_depthwise and keeps_side and is_slow and layer.dilation <= PAIR and layer.stride <= PAIR


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution without bias: torch's own, but for the way its gradients are computed on a CPU.

    Only in training mode: an exported graph holds the plain convolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, H', W'] for [N, C, H, W]."""
        if not (self.training and torch.is_grad_enabled() and x.device.type == "cpu"):
            return super().forward(x)
        stride, dilation = self.stride[0], self.dilation[0]
        if stride == dilation == PAIR:
            x, stride, dilation = x[..., ::PAIR, ::PAIR], 1, 1
        # Autocast knows torch's operations only: what it would cast for those is cast here.
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        result: Tensor = _Depthwise.apply(x.to(dtype), self.weight.to(dtype), stride, dilation)
        return result


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        return _convolve(x, weight, stride, dilation)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:  # noqa: ARG004
        x, weight, ctx.stride, ctx.dilation = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        return (
            _gradient_of_x(gradient, x, weight, ctx.stride, ctx.dilation) if needs_x else None,
            gradient_of_weight(gradient, x, weight, ctx.stride, ctx.dilation) if needs_weight else None,
            None,
            None,
        )


def _convolve(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Return the convolution of padding `dilation * (k // 2)`, which keeps the side at stride 1."""
    return F.conv2d(x, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation, weight.shape[0])


def _gradient_of_x(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    if stride == 1:
        return _convolve(gradient, weight.flip(2, 3), 1, dilation)
    result: Tensor = _torch_gradients(gradient, x, weight, stride, dilation, of_x=True)[0]
    return result


def gradient_of_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Return [C, 1, k, k]: the sum of g times x over images and positions, for each offset between the two.

    Args:
        gradient: [N, C, H', W'].
        x: [N, C, H, W].
        weight: For its shape and, in a second derivative, its graph.
        stride: 1 or 2; 1 if the dilation is 2.
        dilation: 1 or 2.
    """
    if dilation == PAIR:
        if x.shape[-1] % PAIR or x.shape[-2] % PAIR:
            result: Tensor = _torch_gradients(gradient, x, weight, stride, dilation, of_x=False)[1]
            return result
        gradient, x = _quarters(gradient), _quarters(x)
    width, reach = weight.shape[-1], weight.shape[-1] // 2
    parts = []
    for first in range(0, width, WIDEST):
        some = weight[..., first : first + WIDEST]
        # The last column of x that the last of these columns meets.
        last = (gradient.shape[-1] - 1) * stride + first + some.shape[-1] - 1 - reach
        left, right = reach - first, last - (x.shape[-1] - 1)
        # Zeros first: of a small image a wide kernel cuts off more columns than there are.
        columns = F.pad(F.pad(x, (max(left, 0), max(right, 0))), (min(left, 0), min(right, 0)))
        parts.append(_torch_gradients(gradient, columns, some, stride, 1, of_x=False, padding=(reach, 0))[1])
    return torch.cat(parts, dim=-1)


def _quarters(x: Tensor) -> Tensor:
    """Return [4N, C, H / 2, W / 2], channels last: of each image its even and odd rows and columns apart."""
    num_images, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(num_images, height // PAIR, PAIR, width // PAIR, PAIR, channels)
    pixels = pixels.permute(0, 2, 4, 1, 3, 5).reshape(-1, height // PAIR, width // PAIR, channels)
    return pixels.permute(0, 3, 1, 2)


def _torch_gradients(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: int,
    dilation: int,
    *,
    of_x: bool,
    padding: tuple[int, int] | None = None,
) -> Any:
    """Return torch's own gradients by x or by the weight, and None in the place of the other."""
    reach = dilation * (weight.shape[-1] // 2)
    return _convolution_backward(
        gradient,
        x,
        weight,
        None,
        [stride, stride],
        list(padding or (reach, reach)),
        [dilation, dilation],
        False,
        [0, 0],
        weight.shape[0],
        [of_x, not of_x, False],
    )
