"""Weights that small blocks share with the largest one: its first channels, and the center of its kernel.

As in Once-for-All (Cai et al., ICLR 2020), without its learned transformation from a large kernel to a small one.
Blocks with and without squeeze-excitation have nothing in common: another function is asked of the same channels.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from torch import Tensor

from search_spaces.mobile.chain import BLOCKS, EXPANSIONS, KERNELS, Block

_OP: Final = re.compile("|".join(sorted(BLOCKS, key=len, reverse=True)))


def largest(op: str) -> str:
    """Return the block whose slices a block's weights are."""
    return Block(max(KERNELS), max(EXPANSIONS), BLOCKS[op].squeeze).name


def slice_of(large: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the part of `large` that has a shape: first channels, center of a kernel. A view, so gradient flows back.

    Args:
        large: A block's parameter, [out, in, k, k] or [channels].
        shape: Of the same parameter of a smaller block.
    """
    starts = [
        (have - want) // 2 if axis >= 2 else 0 for axis, (have, want) in enumerate(zip(large.shape, shape, strict=True))
    ]
    return large[tuple(slice(start, start + want) for start, want in zip(starts, shape, strict=True))]


def sliced(shapes: Mapping[str, Sequence[int]], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those parameters of blocks that are absent, as slices of the ones that the largest blocks have.

    Args:
        shapes: Of a network's parameters, by name.
        parameters: Of a supernet that shares weights, by name.
    """
    found = {}
    for name, shape in shapes.items():
        source = _OP.sub(lambda match: largest(match.group()), name)
        if name not in parameters and source in parameters:
            found[name] = slice_of(parameters[source], shape)
    return found
