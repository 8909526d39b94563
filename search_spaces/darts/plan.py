"""The network around the cells of DARTS, as data.

A chain of cells; each reads the outputs of the two before it. The cells at a third and at two thirds of the depth are
reduction cells and double the channels. A cell, or a preprocessing, whose output nothing reads is dead.

Source: DARTS, `NetworkCIFAR`, `NetworkImageNet` and their auxiliary heads.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from search_spaces.cells import EdgeOp, Part
from search_spaces.cost import FREE, layers_cost, total_cost
from search_spaces.darts.cell import (
    NODES,
    NUM_INPUTS,
    CellOps,
    Kind,
    factorized_reduce,
    op_layers,
    stride_of,
)
from search_spaces.errors import InvalidOptionError
from search_spaces.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    GlobalAvgPool,
    Layers,
    Linear,
    ReLU,
    relu_conv_bn,
    side_after,
)
from search_spaces.spec import Cost, Macro

STEM_MULTIPLIER = 3
FEWEST_CELLS = 3
SMALLEST_IMAGENET_IMAGE = 32
STEM_0, STEM_1 = -2, -1  # outputs of the stem count as those of the two cells before the first


@dataclass(frozen=True)
class Cell:
    """A searched cell; a preprocessing is absent where no op reads that input."""

    kind: Kind
    preprocess_0: Part | None
    preprocess_1: Part | None
    ops: tuple[tuple[EdgeOp, Part], ...]

    @property
    def cost(self) -> Cost:
        return _cost_of(self.preprocess_0) + _cost_of(self.preprocess_1) + total_cost(part.cost for _, part in self.ops)


@dataclass(frozen=True)
class Plan:
    """A whole network, but for its classifier. Dead cells and a dead second stem are absent.

    `auxiliary_cell` is the cell that the auxiliary head reads: the first live one from two thirds of the depth on.
    """

    stem_0: Part
    stem_1: Part | None
    kinds: tuple[Kind, ...]
    cells: Mapping[int, Cell]
    tail: Part
    num_features: int
    auxiliary: Part | None
    auxiliary_cell: int


def cell_kinds(num_cells: int) -> tuple[Kind, ...]:
    """Return the kind of each cell of a network."""
    reductions = (num_cells // 3, 2 * num_cells // 3)
    return tuple("reduce" if i in reductions else "normal" for i in range(num_cells))


def live_outputs(kinds: Sequence[Kind], reads: Mapping[Kind, AbstractSet[int]]) -> set[int]:
    """Return the cells (and `STEM_0`, `STEM_1`) whose output the last cell depends on.

    Args:
        kinds: Kind of each cell.
        reads: Which of its inputs, 0 (two cells before) and 1 (the cell before), a cell of each kind reads.
    """
    live = {len(kinds) - 1}
    for i in reversed(range(len(kinds))):
        if i in live:
            live |= {i - NUM_INPUTS + source for source in reads[kinds[i]]}
    return live


def inputs_read(ops: CellOps) -> set[int]:
    """Return which of the cell's inputs its ops read."""
    return {op.source for op in ops if op.source < NUM_INPUTS}


def plan_network(macro: Macro, ops: Mapping[Kind, CellOps]) -> Plan:
    """Return the plan of a network whose cells have the given ops.

    Raises:
        InvalidOptionError: Too few cells, or images too small for the skeleton or for its auxiliary head.
    """
    _check(macro)
    kinds = cell_kinds(macro.num_cells)
    live = live_outputs(kinds, {kind: inputs_read(cell) for kind, cell in ops.items()})
    stem_0, stem_1 = _stems(macro)
    channels = macro.num_channels
    stem_channels = STEM_MULTIPLIER * channels if macro.skeleton == "cifar" else channels
    # Channels and side of the two outputs before the cell at hand.
    before = (stem_channels, side_after(stem_0.layers, stem_0.side))
    last = before if stem_1 is None else (stem_channels, side_after(stem_1.layers, stem_1.side))
    cells: dict[int, Cell] = {}
    auxiliary, auxiliary_cell = None, min(i for i in live if i >= 2 * macro.num_cells // 3)
    for i, kind in enumerate(kinds):
        channels *= 2 if kind == "reduce" else 1
        if i in live:
            cells[i] = _cell(kind, ops[kind], before, last, channels)
        side = -(-last[1] // 2) if kind == "reduce" else last[1]
        before, last = last, (len(NODES) * channels, side)
        if macro.auxiliary and i == auxiliary_cell:
            auxiliary = Part(_auxiliary_layers(macro, *last), side)
    return Plan(
        stem_0=stem_0,
        stem_1=stem_1 if STEM_1 in live else None,
        kinds=kinds,
        cells=cells,
        tail=Part((GlobalAvgPool(),), last[1]),
        num_features=last[0],
        auxiliary=auxiliary,
        auxiliary_cell=auxiliary_cell,
    )


def plan_cost(plan: Plan, num_classes: int) -> Cost:
    """Return the cost of the network with its classifier and without its auxiliary head, for one image."""
    classifier = layers_cost((Linear(plan.num_features, num_classes),), 1)
    return total_cost(
        [plan.stem_0.cost, _cost_of(plan.stem_1), *(cell.cost for cell in plan.cells.values()), classifier]
    )


def _cost_of(part: Part | None) -> Cost:
    return FREE if part is None else part.cost


def _check(macro: Macro) -> None:
    if macro.num_cells < FEWEST_CELLS:
        raise InvalidOptionError("cells of a darts network", got=macro.num_cells, expected=f"at least {FEWEST_CELLS}")
    if macro.skeleton == "imagenet":
        if macro.image_size < SMALLEST_IMAGENET_IMAGE:
            raise InvalidOptionError(
                "image size for the imagenet skeleton of darts",
                got=macro.image_size,
                expected=f"at least {SMALLEST_IMAGENET_IMAGE}",
                todo="Use the cifar skeleton for small images.",
            )
        if macro.num_channels < 2:
            raise InvalidOptionError("channels of the imagenet skeleton", got=macro.num_channels, expected="at least 2")


def _stems(macro: Macro) -> tuple[Part, Part | None]:
    channels, side = macro.num_channels, macro.image_size
    if macro.skeleton == "cifar":
        wide = STEM_MULTIPLIER * channels
        return Part((Conv(macro.image_channels, wide, 3, padding=1), BatchNorm(wide)), side), None
    half = channels // 2
    first: Layers = (Conv(macro.image_channels, half, 3, 2, padding=1), BatchNorm(half), ReLU())
    first += (Conv(half, channels, 3, 2, padding=1), BatchNorm(channels))
    return Part(first, side), Part(relu_conv_bn(channels, channels, 3, 2), side_after(first, side))


def _cell(kind: Kind, ops: CellOps, before: tuple[int, int], last: tuple[int, int], channels: int) -> Cell:
    side = last[1]
    halves = before[1] != side
    reads = inputs_read(ops)
    first = factorized_reduce(before[0], channels) if halves else relu_conv_bn(before[0], channels, 1)
    inner = -(-side // 2) if kind == "reduce" else side
    parts = tuple(
        (op, Part(op_layers(op.op, channels, stride_of(op, kind)), side if op.source < NUM_INPUTS else inner))
        for op in dict.fromkeys(ops)
    )
    return Cell(
        kind=kind,
        preprocess_0=Part(first, before[1]) if 0 in reads else None,
        preprocess_1=Part(relu_conv_bn(last[0], channels, 1), side) if 1 in reads else None,
        ops=parts,
    )


def _auxiliary_layers(macro: Macro, channels: int, side: int) -> Layers:
    """Return the layers of the auxiliary head; a global mean takes the place of the literature's 1x1 flattening."""
    stride = 3 if macro.skeleton == "cifar" else 2
    smallest = 5 + stride
    if side < smallest:
        raise InvalidOptionError(
            "side of the cell that the auxiliary head reads",
            got=side,
            expected=f"at least {smallest} pixels",
            todo="Use larger images, or no auxiliary head.",
        )
    # The literature's head for ImageNet has no second batch norm.
    second: Layers = (BatchNorm(768),) if macro.skeleton == "cifar" else ()
    head: Layers = (ReLU(), AvgPool(5, stride), Conv(channels, 128, 1), BatchNorm(128), ReLU(), Conv(128, 768, 2))
    return (*head, *second, ReLU(), GlobalAvgPool(), Linear(768, macro.num_classes))
