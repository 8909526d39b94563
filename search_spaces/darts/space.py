"""The search space of DARTS, with what is exported as what is searched: two slots per node, `none` excluded."""

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Final

from search_spaces.architecture import Architecture
from search_spaces.cells import EdgeOp, depth_of, node_sums
from search_spaces.darts.cell import KINDS, NAME, NODES, NUM_INPUTS, OPS, SLOTS, CellOps, Kind, cells_of, node_options
from search_spaces.darts.plan import plan_cost, plan_network
from search_spaces.darts.rules import best_pair, valid_pair
from search_spaces.decisions import check_choices, check_document, check_scores, option_mask
from search_spaces.drawing import CellDrawing, draw_svg, draw_text
from search_spaces.errors import InvalidArchitectureError
from search_spaces.spec import Cost, Decision, Depth, Macro, least

DEFAULT_NUM_CHANNELS: Final = 16
DEFAULT_NUM_CELLS: Final = 5
FORM: Final = "normal:|op~i|op~j|+|op~i|op~j|+|op~i|op~j|+|op~i|op~j|;reduce:..."
NODE_LABELS: Final = ("c[k-2]", "c[k-1]", "2", "3", "4", "5")  # numbered as in `op~predecessor`
# What the paper's second-order search found, `DARTS_V2` in its code.
DARTS_V2: Final = (
    "normal:|sep_conv_3x3~0|sep_conv_3x3~1|+|sep_conv_3x3~0|sep_conv_3x3~1|"
    "+|sep_conv_3x3~1|skip_connect~0|+|skip_connect~0|dil_conv_3x3~2|"
    ";reduce:|max_pool_3x3~0|max_pool_3x3~1|+|skip_connect~2|max_pool_3x3~1|"
    "+|max_pool_3x3~0|skip_connect~2|+|skip_connect~2|max_pool_3x3~1|"
)
TITLES: Final[dict[Kind, str]] = {"normal": "normal cell", "reduce": "reduction cell"}


class Darts:
    """The space as `SearchSpace` asks for it; a decision is a slot, an option an op of a predecessor.

    Args:
        distinct_predecessors: Whether the two slots of a node must read different nodes, as DARTS' own rule has it.
            Cells that BASE published do not.
    """

    name: str = NAME
    title: str = "DARTS (Liu, Simonyan and Yang, 2019)"
    decisions: tuple[Decision, ...] = tuple(
        Decision(name=f"{kind}/{node}/{slot}", options=tuple(f"{op.op}~{op.source}" for op in node_options(node)))
        for kind in KINDS
        for node in NODES
        for slot in "ab"
    )
    num_decisions: int = len(decisions)
    num_options: int = len(decisions[-1].options)
    option_mask: tuple[tuple[bool, ...], ...] = option_mask(decisions)

    def __init__(self, *, distinct_predecessors: bool = False) -> None:
        self.distinct_predecessors = distinct_predecessors

    @property
    def num_architectures(self) -> float:
        per_pair = len(OPS) ** SLOTS if self.distinct_predecessors else 1
        sizes = [node if self.distinct_predecessors else len(node_options(node)) for node in NODES]
        return float(math.prod(math.comb(size, SLOTS) * per_pair for size in sizes) ** len(KINDS))

    def default_macro(self, *, num_classes: int, image_size: int) -> Macro:
        return Macro(
            num_channels=DEFAULT_NUM_CHANNELS,
            num_cells=DEFAULT_NUM_CELLS,
            num_classes=num_classes,
            image_size=image_size,
        )

    def parse(self, document: str | Mapping[str, object]) -> Architecture:
        cells = _cells_of_json(document) if isinstance(document, Mapping) else _cells_of_text(document)
        choices = [
            _choice(op, source, node, kind)
            for kind in KINDS
            for (op, source), node in zip(cells[kind], _slot_nodes(), strict=True)
        ]
        return Architecture(NAME, tuple(choices))

    def format(self, arch: Architecture) -> str:
        return ";".join(f"{kind}:{_format_cell(ops)}" for kind, ops in self._cells(arch).items())

    def to_json(self, arch: Architecture) -> dict[str, object]:
        cells: dict[str, object] = {k: [[op.op, op.source] for op in ops] for k, ops in self._cells(arch).items()}
        return {"space": NAME, **cells}

    def is_valid(self, arch: Architecture) -> bool:
        return all(
            valid_pair(first, second, distinct_predecessors=self.distinct_predecessors)
            for ops in self._cells(arch).values()
            for first, second in zip(ops[::SLOTS], ops[1::SLOTS], strict=True)
        )

    def discretize(self, scores: Sequence[Sequence[float]]) -> Architecture:
        table = check_scores(scores, self.decisions)
        nodes = [node for _ in KINDS for node in NODES]
        choices: list[int] = []
        for first, second, node in zip(table[::SLOTS], table[1::SLOTS], nodes, strict=True):
            choices += best_pair(first, second, node, distinct_predecessors=self.distinct_predecessors)
        return Architecture(NAME, tuple(choices))

    def cost(self, arch: Architecture, macro: Macro) -> Cost:
        if not self.is_valid(arch):
            raise self._invalid(arch)
        return plan_cost(plan_network(macro, self._cells(arch)), macro.num_classes)

    def depth(self, arch: Architecture) -> Depth:
        if not self.is_valid(arch):
            raise self._invalid(arch)
        of_kinds = [depth_of(ops, inputs=range(NUM_INPUTS), outputs=NODES) for ops in self._cells(arch).values()]
        return Depth(
            longest=fmean(depth.longest for depth in of_kinds), shortest=fmean(depth.shortest for depth in of_kinds)
        )

    def connected(self, arch: Architecture) -> Architecture:
        # Each node is an output.
        if not self.is_valid(arch):
            raise self._invalid(arch)
        return arch

    def signature(self, arch: Architecture) -> Hashable:
        if not self.is_valid(arch):
            raise self._invalid(arch)
        # All nodes are outputs, in this order. A skip reads at another side where a cell reduces: no identity.
        sums = [node_sums(ops, inputs=range(NUM_INPUTS)) for ops in self._cells(arch).values()]
        return tuple(of_kind[node] for of_kind in sums for node in NODES)

    def cheapest(self) -> tuple[Architecture, ...]:
        # A pooling costs nothing, so what is left to choose is which inputs the cells read: that decides which
        # preprocessings, and which whole cells, are dead.
        cells = [_pooling_cell(inputs) for inputs in ((0, 1), (0, 0), (1, 1))]
        pairs = product(cells[:1] if self.distinct_predecessors else cells, repeat=len(KINDS))
        return tuple(architecture_of(**dict(zip(KINDS, pair, strict=True))) for pair in pairs)

    def published(self) -> Architecture:
        return self.parse(DARTS_V2)

    def minimum_cost(self, macro: Macro) -> Cost:
        return least(self.cost(arch, macro) for arch in self.cheapest())

    def draw_text(self, arch: Architecture) -> str:
        return draw_text(self._drawings(arch))

    def draw_svg(self, arch: Architecture) -> str:
        return draw_svg(self._drawings(arch))

    def _drawings(self, arch: Architecture) -> tuple[CellDrawing, ...]:
        return tuple(
            CellDrawing(title=TITLES[kind], nodes=NODE_LABELS, num_inputs=NUM_INPUTS, ops=ops, concatenated="c[k]")
            for kind, ops in self._cells(arch).items()
        )

    def _cells(self, arch: Architecture) -> dict[Kind, CellOps]:
        check_choices(arch, space=NAME, decisions=self.decisions)
        return cells_of(arch.choices)

    def _invalid(self, arch: Architecture) -> InvalidArchitectureError:
        rule = "different predecessors" if self.distinct_predecessors else "different ops or predecessors"
        what = "two slots of one node that may not go together"
        return InvalidArchitectureError(what, got=self.format(arch), expected=rule)


def architecture_of(normal: CellOps, reduce: CellOps) -> Architecture:
    """Return the architecture with these cells, such as `rules.darts_rule` derives."""
    choices = [node_options(op.target).index(op) for op in (*normal, *reduce)]
    return Architecture(NAME, tuple(choices))


def _slot_nodes() -> list[int]:
    return [node for node in NODES for _ in range(SLOTS)]


def _pooling_cell(inputs: tuple[int, int]) -> CellOps:
    """Return a cell of poolings only, whose nodes read the given inputs."""
    pools = ("max_pool_3x3", "avg_pool_3x3")
    return tuple(EdgeOp(source, node, op) for node in NODES for source, op in zip(inputs, pools, strict=True))


def _format_cell(ops: CellOps) -> str:
    slots = [f"{op.op}~{op.source}" for op in ops]
    return "+".join(f"|{first}|{second}|" for first, second in zip(slots[::SLOTS], slots[1::SLOTS], strict=True))


def _cells_of_text(text: str) -> dict[Kind, list[tuple[str, object]]]:
    """Return (op, predecessor) pairs by kind of cell; the string form is `FORM`."""
    parts = re.fullmatch(r"normal:(.+);reduce:(.+)", text.strip())
    if parts is None:
        raise InvalidArchitectureError("string form of a darts architecture", got=text, expected=FORM)
    return {kind: _slots_of_text(cell, kind) for kind, cell in zip(KINDS, parts.groups(), strict=True)}


def _slots_of_text(cell: str, kind: Kind) -> list[tuple[str, object]]:
    nodes = [re.fullmatch(r"\|([^|]+)\|([^|]+)\|", node) for node in cell.split("+")]
    slots = [slot for node in nodes if node is not None for slot in node.groups()]
    if None in nodes or len(nodes) != len(NODES):
        raise InvalidArchitectureError(
            f"nodes of the {kind} cell", got=cell, expected=f"{len(NODES)} joined by +, each |op~i|op~j|"
        )
    pairs: list[tuple[str, object]] = []
    for slot in slots:
        op, _, source = slot.partition("~")
        pairs.append((op, int(source) if source.isascii() and source.isdigit() else source))
    return pairs


def _cells_of_json(document: Mapping[str, object]) -> dict[Kind, list[tuple[str, object]]]:
    """Return (op, predecessor) pairs by kind of cell; the JSON form is that of a published genotype."""
    check_document(document, space=NAME, keys=KINDS)
    return {kind: _slots_of_json(document[kind], kind) for kind in KINDS}


def _slots_of_json(cell: object, kind: Kind) -> list[tuple[str, object]]:
    count = len(NODES) * SLOTS
    expected = f"{count} pairs [op, predecessor], two per node"
    if not isinstance(cell, list | tuple) or len(cell) != count:
        raise InvalidArchitectureError(f"slots of the {kind} cell", got=cell, expected=expected)
    for pair in cell:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise InvalidArchitectureError(f"slot of the {kind} cell", got=pair, expected=expected)
    return [(pair[0], pair[1]) for pair in cell]


def _choice(op: str, source: object, node: int, kind: Kind) -> int:
    if op not in OPS:
        raise InvalidArchitectureError(
            f"op into node {node} of the {kind} cell", got=op, expected=f"one of {', '.join(OPS)}"
        )
    if isinstance(source, bool) or not isinstance(source, int) or not 0 <= source < node:
        raise InvalidArchitectureError(
            f"predecessor of node {node} of the {kind} cell", got=source, expected=f"a number from 0 to {node - 1}"
        )
    return node_options(node).index(EdgeOp(source, node, op))
