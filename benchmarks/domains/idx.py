"""IDX, the format of MNIST and of its followers: a header of sides, then bytes."""

import numpy as np
from numpy.typing import NDArray

from workers.contracts.errors import InvalidDatasetError

_UNSIGNED_BYTES = 0x08
SIDE = 28
PADDED = 32


def read_idx(data: bytes) -> NDArray[np.uint8]:
    """Return the array that an IDX file of unsigned bytes holds.

    Raises:
        InvalidDatasetError: It is no such file, or not whole.
    """
    if len(data) < 4 or data[:3] != bytes([0, 0, _UNSIGNED_BYTES]):
        raise InvalidDatasetError("no IDX file of bytes", got=data[:4].hex(), expected="000008 and the number of sides")
    first = 4 + 4 * data[3]
    sides = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, first, 4))
    if len(data) != first + int(np.prod(sides)):
        raise InvalidDatasetError("the IDX file is not whole", got=f"{len(data)} bytes", expected=f"sides {sides}")
    return np.frombuffer(data, np.uint8, offset=first).reshape(sides)


def padded(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images [N, 28, 28] in the middle of 32 x 32 pixels, with what lies around them black, as they are."""
    margin = (PADDED - SIDE) // 2
    return np.pad(images, ((0, 0), (margin, margin), (margin, margin)))
