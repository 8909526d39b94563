"""The cells of NAS-Bench-201 in the skeleton that its tables are about, what they cost, and the caps on that.

The table writes a cell as six digits: the op of each edge, in the order 0-1, 0-2, 1-2, 0-3, 1-3, 2-3. That is the order
of the space's decisions, and the digits are its options: a test compares both with what is known of single cells.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Final

from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidArchitectureError, InvalidOptionError
from search_spaces.nas_bench_201.cell import EDGES, NAME, OPS, live_ops
from search_spaces.registry import SPACES
from search_spaces.spec import Cost, Macro

SPACE: Final = SPACES[NAME]
# Dong and Yang, 2020: 16 channels, 5 cells a stage, CIFAR-10.
NO_CAP: Final = "100%"
MACRO: Final = Macro(num_channels=16, num_cells=5, num_classes=10, image_size=32)


@dataclass(frozen=True, kw_only=True)
class Cap:
    """A limit on the MACs of the benchmark's network.

    Attributes:
        percent: Of the MACs of the largest network of the space; 100: no cap.
        max_macs: The limit itself.
    """

    percent: float
    max_macs: int

    @property
    def name(self) -> str:
        return f"{self.percent:g}%"


def cell_of(digits: str) -> Architecture:
    """Return the cell that six digits stand for.

    Raises:
        InvalidArchitectureError: They are not six digits of ops.
    """
    if len(digits) != len(EDGES) or any(digit not in "01234" for digit in digits):
        raise InvalidArchitectureError(
            "digits of a cell",
            got=digits,
            expected=f"{len(EDGES)} of 0 to {len(OPS) - 1}",
            todo="If leading zeros are gone, write the column as text.",
        )
    return Architecture(NAME, tuple(int(digit) for digit in digits))


def digits_of(cell: Architecture) -> str:
    """Return a cell as six digits."""
    return "".join(str(choice) for choice in cell.choices)


@cache
def costs() -> Mapping[Architecture, Cost]:
    """Return the cost of every cell whose output depends on its input, in the benchmark's skeleton.

    Ops on a way from input to output cost the same on any edge, so cells with the same ones share their cost.
    """
    by_ops: dict[tuple[str, ...], Cost] = {}
    found: dict[Architecture, Cost] = {}
    for choices in product(range(len(OPS)), repeat=len(EDGES)):
        ops = tuple(sorted(op.op for op in live_ops(choices)))
        if not ops:
            continue
        cell = Architecture(NAME, choices)
        if ops not in by_ops:
            by_ops[ops] = SPACE.cost(cell, MACRO)
        found[cell] = by_ops[ops]
    return found


def cap_of(percent: float) -> Cap:
    """Return the cap at a percentage of the largest MACs.

    Raises:
        InvalidOptionError: No cell is that small, or it is more than 100.
    """
    macs = [cost.macs for cost in costs().values()]
    limit = int(max(macs) * percent / 100)
    if percent > 100 or limit < min(macs):
        least = 100 * min(macs) / max(macs)
        raise InvalidOptionError("cap on the MACs in percent", got=percent, expected=f"{least:.1f} to 100")
    return Cap(percent=percent, max_macs=limit)


def cells_within(max_macs: int) -> list[Architecture]:
    """Return the cells of at most so many MACs, in the order of their digits."""
    return [cell for cell, cost in costs().items() if cost.macs <= max_macs]


def shuffled_within(max_macs: int, seed: int) -> list[Architecture]:
    """Return the same cells in random order."""
    cells = cells_within(max_macs)
    random.Random(seed).shuffle(cells)
    return cells


def most_params(max_macs: int) -> list[Architecture]:
    """Return all cells with the most parameters within a cap, which are those with the most MACs: a test compares.

    Counting does not tell them apart.
    """
    cells = cells_within(max_macs)
    most = max(costs()[cell].params for cell in cells)
    return [cell for cell in cells if costs()[cell].params == most]
