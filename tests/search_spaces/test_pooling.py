"""Poolings: torch's own values and gradients, whatever way they are computed."""

import pytest
import torch
import torch.nn.functional as F

from search_spaces.layers import AvgPool, MaxPool
from search_spaces.pooling import SMALLEST, AveragePooling, MaximumPooling


def images(side: int) -> torch.Tensor:
    x = torch.randn(2, 3, side + 1, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("side", [SMALLEST, 5])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_mean_leaves_out_what_is_outside(side, training, stride) -> None:
    x = images(side)

    ours = AveragePooling(AvgPool(3, stride, padding=1)).train(training)(x)
    theirs = F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)

    torch.testing.assert_close(ours, theirs)
    slope = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(torch.autograd.grad(ours, [x], slope), torch.autograd.grad(theirs, [x], slope))


def test_a_large_mean_is_a_convolution_in_training_only() -> None:
    pool, x = AveragePooling(AvgPool(3, 1, padding=1)), images(SMALLEST)

    assert pool(x).grad_fn.name() == "DivBackward0"
    assert pool.eval()(x).grad_fn.name() == "AvgPool2DBackward0"


@pytest.mark.parametrize("side", [SMALLEST, 5])
@pytest.mark.parametrize("with_gradient", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_maximum_is_torchs_bit_for_bit(side, with_gradient, stride) -> None:
    x = images(side)

    with torch.set_grad_enabled(with_gradient):
        ours = MaximumPooling(MaxPool(3, stride, padding=1))(x)

    assert torch.equal(ours, F.max_pool2d(x, 3, stride, 1))
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_of_equal_values_the_first_gets_all_of_the_gradient() -> None:
    x = torch.zeros(1, 1, SMALLEST, SMALLEST, requires_grad=True)

    MaximumPooling(MaxPool(SMALLEST, 1))(x).sum().backward()

    assert x.grad is not None
    assert x.grad.unique().tolist() == [0.0, 1.0]
    assert float(x.grad.sum()) == 1.0
