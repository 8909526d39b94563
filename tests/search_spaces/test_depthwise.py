"""Depthwise convolutions: torch's own values and derivatives, first and second, whatever way they are computed."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from search_spaces.depthwise import DepthwiseConv2d, gains
from search_spaces.layers import Conv
from search_spaces.modules import build_layers

SHAPES = [
    (kernel, stride, dilation, side)
    for kernel, stride, dilation in itertools.product((3, 5, 7), (1, 2), (1, 2))
    for side in (8, 9)
    if gains(Conv(4, 4, kernel, stride, dilation * (kernel // 2), dilation, groups=4))
]


def problem(kernel: int, stride: int, dilation: int, side: int) -> tuple[DepthwiseConv2d, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    layer = DepthwiseConv2d(3, 3, kernel, stride, dilation * (kernel // 2), dilation, groups=3, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
    # Higher than wide: an exchange of the axes would show.
    x = torch.randn(2, 3, side + 2, side, generator=generator, dtype=torch.float64)
    return layer, x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize(("kernel", "stride", "dilation", "side"), SHAPES)
def test_values_and_gradients_are_those_of_torch(kernel, stride, dilation, side) -> None:
    layer, x = problem(kernel, stride, dilation, side)
    weight = layer.weight.detach().clone().requires_grad_()

    ours = layer(x)
    theirs = F.conv2d(x, weight, None, stride, dilation * (kernel // 2), dilation, 3)

    torch.testing.assert_close(ours, theirs)
    slope = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for found, expected in zip(
        torch.autograd.grad(ours, [x, layer.weight], slope),
        torch.autograd.grad(theirs, [x, weight], slope),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(5, 1, 1), (5, 2, 1), (3, 1, 2), (5, 2, 2)])
def test_second_derivatives_are_those_of_finite_differences(kernel, stride, dilation) -> None:
    layer, x = problem(kernel, stride, dilation, 4)

    def run(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (x,))

    assert torch.autograd.gradgradcheck(run, (x[:1].detach().requires_grad_(), layer.weight), atol=1e-6)


def test_only_what_needs_a_gradient_gets_one() -> None:
    layer, x = problem(5, 1, 1, 8)
    layer.weight.requires_grad_(False)

    layer(x).sum().backward()

    assert x.grad is not None
    assert layer.weight.grad is None


def test_results_keep_the_channels_last_layout() -> None:
    layer, x = problem(5, 1, 2, 8)
    output = layer(x)
    (slope,) = torch.autograd.grad(output.square().sum(), [x])

    for tensor in (output, slope):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mode", ["evaluation", "no gradient"])
def test_outside_of_training_the_plain_convolution_runs(mode) -> None:
    layer, x = problem(5, 2, 2, 8)
    layer.train(mode != "evaluation")
    with torch.set_grad_enabled(mode == "evaluation"):
        output = layer(x)

    assert output.grad_fn is None or output.grad_fn.name() == "ConvolutionBackward0"


@pytest.mark.parametrize(
    ("layer", "is_ours"),
    [
        (Conv(4, 4, 5, padding=2, groups=4), True),
        (Conv(4, 4, 3, padding=2, dilation=2, groups=4), True),
        (Conv(4, 4, 3, padding=1, groups=4), False),  # torch is fast
        (Conv(4, 4, 5, padding=2), False),  # no depthwise convolution
        (Conv(4, 8, 5, padding=2, groups=4), False),
        (Conv(4, 4, 5, padding=0, groups=4), False),  # another padding than ours
    ],
)
def test_layers_are_built_with_it_where_it_is_faster(layer, is_ours) -> None:
    (module,) = build_layers((layer,), track_statistics=False)

    assert isinstance(module, DepthwiseConv2d) == is_ours
