"""Counting parameters and multiply-accumulates (MACs) on layers as data.

MACs are those of convolutions and linear layers, as the literature counts them; normalization, pooling and
activations are left out.
"""

from collections.abc import Iterable
from functools import lru_cache

from search_spaces.layers import (
    BatchNorm,
    Conv,
    FactorizedReduce,
    Layer,
    Layers,
    Linear,
    Residual,
    SqueezeExcite,
    side_after,
)
from search_spaces.spec import Cost

FREE = Cost(params=0, macs=0)


@lru_cache(maxsize=16_384)
def layers_cost(layers: Layers, side: int) -> Cost:
    """Return the cost of applying `layers` to one input of `side` x `side` pixels."""
    total = FREE
    for layer in layers:
        side = side_after((layer,), side)
        total += _layer_cost(layer, side)
    return total


def total_cost(costs: Iterable[Cost]) -> Cost:
    """Return the sum."""
    return sum(costs, start=FREE)


def _layer_cost(layer: Layer, side: int) -> Cost:
    """Return the cost of a layer whose output has `side` x `side` positions."""
    match layer:
        case Conv():
            weights = layer.in_channels // layer.groups * layer.out_channels * layer.kernel**2
            return Cost(params=weights, macs=weights * side**2)
        case FactorizedReduce():
            weights = layer.in_channels * layer.out_channels
            return Cost(params=weights, macs=weights * side**2)
        case Linear():
            weights = layer.in_features * layer.out_features
            return Cost(params=weights + layer.out_features, macs=weights)
        case BatchNorm():
            return Cost(params=2 * layer.channels, macs=0)
        case SqueezeExcite():
            weights = 2 * layer.channels * layer.squeezed
            return Cost(params=weights + layer.channels + layer.squeezed, macs=weights)
        case Residual():
            return layers_cost(layer.layers, side)
        case _:
            return FREE
