"""The search space of NAS-Bench-201: 15,625 cells, one op on each of six edges."""

import re
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Final

from search_spaces.architecture import Architecture
from search_spaces.cells import depth_of, node_sums
from search_spaces.decisions import check_choices, check_document, check_scores, option_mask
from search_spaces.drawing import CellDrawing, draw_svg, draw_text
from search_spaces.errors import InvalidArchitectureError
from search_spaces.nas_bench_201.cell import EDGES, NAME, NONE, OPS, OUTPUT, PATHS, CellOps, live_ops
from search_spaces.nas_bench_201.plan import plan_cost, plan_network
from search_spaces.spec import Cost, Decision, Depth, Macro, least

DEFAULT_NUM_CHANNELS: Final = 16
DEFAULT_NUM_CELLS: Final = 1
FORM: Final = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
NODE_LABELS: Final = ("in", "1", "2", "out")
# The cell that makes the skeleton a ResNet: what the benchmark's authors compare found cells with.
RESIDUAL: Final = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"


class NasBench201:
    """The space as `SearchSpace` asks for it; a decision is an edge, an option an op."""

    name: str = NAME
    title: str = "NAS-Bench-201 (Dong and Yang, 2020)"
    decisions: tuple[Decision, ...] = tuple(Decision(name=f"{i}-{j}", options=OPS) for i, j in EDGES)
    num_decisions: int = len(EDGES)
    num_options: int = len(OPS)
    option_mask: tuple[tuple[bool, ...], ...] = option_mask(decisions)

    @cached_property
    def num_architectures(self) -> float:
        every = product(range(len(OPS)), repeat=len(EDGES))
        return float(sum(bool(live_ops(choices)) for choices in every))

    def default_macro(self, *, num_classes: int, image_size: int) -> Macro:
        return Macro(
            num_channels=DEFAULT_NUM_CHANNELS,
            num_cells=DEFAULT_NUM_CELLS,
            num_classes=num_classes,
            image_size=image_size,
        )

    def parse(self, document: str | Mapping[str, object]) -> Architecture:
        if isinstance(document, Mapping):
            check_document(document, space=NAME, keys=("arch",))
            text = document["arch"]
            if not isinstance(text, str):
                raise InvalidArchitectureError("arch of a nas_bench_201 architecture", got=text, expected=FORM)
            return self.parse(text)
        nodes = document.strip().split("+")
        if len(nodes) != OUTPUT:
            raise InvalidArchitectureError("string form of a nas_bench_201 cell", got=document, expected=FORM)
        choices = [choice for target, node in enumerate(nodes, start=1) for choice in _parse_node(node, target)]
        return Architecture(NAME, tuple(choices))

    def format(self, arch: Architecture) -> str:
        self._check(arch)
        ops = {edge: OPS[choice] for edge, choice in zip(EDGES, arch.choices, strict=True)}
        nodes = ["".join(f"|{ops[i, j]}~{i}" for i in range(j)) + "|" for j in range(1, OUTPUT + 1)]
        return "+".join(nodes)

    def to_json(self, arch: Architecture) -> dict[str, object]:
        return {"space": NAME, "arch": self.format(arch)}

    def is_valid(self, arch: Architecture) -> bool:
        self._check(arch)
        return bool(live_ops(arch.choices))

    def discretize(self, scores: Sequence[Sequence[float]]) -> Architecture:
        table = check_scores(scores, self.decisions)
        best = [max(range(len(row)), key=row.__getitem__) for row in table]
        best_op = [max((o for o in range(len(row)) if OPS[o] != NONE), key=row.__getitem__) for row in table]
        # The best valid cell is the best one along which some path holds an op on every edge.
        candidates = [tuple(best_op[e] if edge in path else best[e] for e, edge in enumerate(EDGES)) for path in PATHS]
        chosen = max(candidates, key=lambda choices: sum(row[o] for row, o in zip(table, choices, strict=True)))
        return Architecture(NAME, chosen)

    def cost(self, arch: Architecture, macro: Macro) -> Cost:
        return plan_cost(plan_network(macro, self._live_ops(arch)), macro.num_classes)

    def depth(self, arch: Architecture) -> Depth:
        return depth_of(self._live_ops(arch), inputs=(0,), outputs=(OUTPUT,))

    def connected(self, arch: Architecture) -> Architecture:
        live = {(op.source, op.target) for op in self._live_ops(arch)}
        choices = zip(EDGES, arch.choices, strict=True)
        return Architecture(NAME, tuple(choice if edge in live else OPS.index(NONE) for edge, choice in choices))

    def signature(self, arch: Architecture) -> Hashable:
        ops = self._live_ops(arch)
        # A convolution that is read twice and two of them look the same in a sum.
        convolutions = sorted(op.op for op in ops if op.op in ("nor_conv_1x1", "nor_conv_3x3"))
        return node_sums(ops, inputs=(0,), identity="skip_connect")[OUTPUT], tuple(convolutions)

    def cheapest(self) -> tuple[Architecture, ...]:
        # A single skip from input to output costs nothing beyond the skeleton.
        choices = tuple(OPS.index("skip_connect" if edge == (0, OUTPUT) else NONE) for edge in EDGES)
        return (Architecture(NAME, choices),)

    def published(self) -> Architecture:
        return self.parse(RESIDUAL)

    def minimum_cost(self, macro: Macro) -> Cost:
        return least(self.cost(arch, macro) for arch in self.cheapest())

    def draw_text(self, arch: Architecture) -> str:
        return draw_text(self._drawings(arch))

    def draw_svg(self, arch: Architecture) -> str:
        return draw_svg(self._drawings(arch))

    def _drawings(self, arch: Architecture) -> tuple[CellDrawing, ...]:
        self._check(arch)
        return (CellDrawing(title="cell", nodes=NODE_LABELS, num_inputs=1, ops=live_ops(arch.choices)),)

    def _live_ops(self, arch: Architecture) -> CellOps:
        self._check(arch)
        ops = live_ops(arch.choices)
        if not ops:
            raise InvalidArchitectureError(
                "no way from the cell's input to its output", got=self.format(arch), expected="a connected cell"
            )
        return ops

    def _check(self, arch: Architecture) -> None:
        check_choices(arch, space=NAME, decisions=self.decisions)


def _parse_node(node: str, target: int) -> list[int]:
    """Return the choices on the edges into node `target`, written as `|op~0|op~1|`."""
    entries = re.fullmatch(r"\|(.+)\|", node)
    items = entries.group(1).split("|") if entries else []
    if len(items) != target:
        raise InvalidArchitectureError(f"ops into node {target}", got=node, expected=f"{target} as in {FORM}")
    choices = []
    for source, item in enumerate(items):
        op, _, predecessor = item.partition("~")
        if op not in OPS:
            raise InvalidArchitectureError(f"op on edge {source}-{target}", got=op, expected=f"one of {', '.join(OPS)}")
        if predecessor != str(source):
            raise InvalidArchitectureError(
                f"predecessor number {source} of node {target}", got=predecessor, expected=str(source)
            )
        choices.append(OPS.index(op))
    return choices
