"""Many float32 tensors as one flat array, which Ray ships without copying or pickling them one by one.

The order of a tensor's elements in memory travels too: sums over it, such as a norm, then have the same bits on both
sides.
"""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import lru_cache
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.errors import InvalidOptionError


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies: its name, its shape, and whether its channels come last in memory."""

    name: str
    shape: tuple[int, ...]
    channels_last: bool


@dataclass(frozen=True, eq=False)
class Flat:
    """Tensors by name, packed.

    Attributes:
        layout: The entries, in the order of the values, as JSON: hundreds of objects would take Ray longer than the
            values do.
        values: float32 [P].
    """

    layout: str
    values: NDArray[np.float32]

    @property
    def entries(self) -> tuple[Entry, ...]:
        return _read(self.layout)

    @property
    def num_bytes(self) -> int:
        return self.values.nbytes


def pack(arrays: Mapping[str, Tensor]) -> Flat:
    """Return tensors as one flat array, copied.

    Raises:
        InvalidOptionError: One is not float32.
    """
    entries = []
    values = np.empty(sum(tensor.numel() for tensor in arrays.values()), dtype=np.float32)
    start = 0
    for name, tensor in arrays.items():
        if tensor.dtype != torch.float32:
            raise InvalidOptionError(f"tensor {name} cannot be packed", got=tensor.dtype, expected="float32")
        last = _channels_last(tensor)
        in_memory = tensor.permute(0, 2, 3, 1) if last else tensor
        stop = start + tensor.numel()
        values[start:stop] = in_memory.detach().cpu().reshape(-1).numpy()
        entries.append(Entry(name, tuple(tensor.shape), last))
        start = stop
    return Flat(json.dumps([astuple(entry) for entry in entries]), values)


def unpack(flat: Flat) -> dict[str, Tensor]:
    """Return the tensors, as views of one copy: what came from Ray's shared memory must not be written to.

    Raises:
        InvalidOptionError: There are not as many values as the entries say.
    """
    expected = sum(prod(entry.shape) for entry in flat.entries)
    if flat.values.shape != (expected,):
        raise InvalidOptionError(
            "a flat array does not fit its layout", got=flat.values.shape, expected=f"({expected},)"
        )
    values = torch.from_numpy(flat.values.copy())
    arrays, start = {}, 0
    for entry in flat.entries:
        stop = start + prod(entry.shape)
        part = values[start:stop]
        if entry.channels_last:
            num, channels, height, width = entry.shape
            arrays[entry.name] = part.view(num, height, width, channels).permute(0, 3, 1, 2)
        else:
            arrays[entry.name] = part.view(entry.shape)
        start = stop
    return arrays


def arrange(flat: Flat, layout: str) -> Flat:
    """Return the same tensors in the order and with the memory formats of a layout: then arrays can be added.

    Raises:
        InvalidOptionError: Other names or shapes.
    """
    if flat.layout == layout:
        return flat
    arrays, entries = unpack(flat), _read(layout)
    if {entry.name: entry.shape for entry in entries} != {name: tuple(value.shape) for name, value in arrays.items()}:
        got = sorted({entry.name for entry in entries} ^ arrays.keys())[:5]
        raise InvalidOptionError("two flat arrays hold different tensors", got=got)
    formats = {True: torch.channels_last, False: torch.contiguous_format}
    return pack(
        {entry.name: arrays[entry.name].contiguous(memory_format=formats[entry.channels_last]) for entry in entries}
    )


@lru_cache(maxsize=8)
def _read(layout: str) -> tuple[Entry, ...]:
    return tuple(Entry(name, tuple(shape), last) for name, shape, last in json.loads(layout))


def _channels_last(tensor: Tensor) -> bool:
    return (
        tensor.dim() == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous(memory_format=torch.contiguous_format)
    )
