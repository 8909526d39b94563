"""Drawings of cells for a terminal and as SVG. Free of torch, and of any drawing library.

In the SVG the nodes stand in a row; ops are arcs above and below it, labelled at their apex. Arcs over the same stretch
of the row have different heights, so labels never overlap.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from search_spaces.cells import EdgeOp

COLORS = {
    "skip_connect": "#64748b",
    "nor_conv_1x1": "#0284c7",
    "nor_conv_3x3": "#1d4ed8",
    "sep_conv_3x3": "#1d4ed8",
    "sep_conv_5x5": "#6d28d9",
    "dil_conv_3x3": "#0f766e",
    "dil_conv_5x5": "#15803d",
    "max_pool_3x3": "#c2410c",
    "avg_pool_3x3": "#b45309",
    **{
        f"mbconv_k{kernel}_e{expansion}{squeeze}": color
        for kernel, color in ((3, "#1d4ed8"), (5, "#6d28d9"), (7, "#0f766e"))
        for expansion in (3, 6)
        for squeeze in ("", "_se")
    },
}
OTHER_COLOR = "#334155"
INK, FAINT, PAPER, BAND = "#0f172a", "#cbd5e1", "#ffffff", "#f1f5f9"

SPACING = 150
MARGIN = 50
LANE = 32
RADIUS = 15
TITLE_HEIGHT = 34
LABEL_HEIGHT = 19
CHARACTER = 6.8
FONT = "font-family='ui-sans-serif, system-ui, Segoe UI, Helvetica, Arial, sans-serif'"


@dataclass(frozen=True, kw_only=True)
class CellDrawing:
    """What is drawn of a cell.

    Attributes:
        title: Above the drawing.
        nodes: Labels by node number; inputs first.
        num_inputs: How many of them are inputs.
        ops: The ops that act.
        concatenated: Label of the concatenation of all computed nodes; empty where the last node is the output.
    """

    title: str
    nodes: tuple[str, ...]
    num_inputs: int
    ops: tuple[EdgeOp, ...]
    concatenated: str = ""


def draw_text(cells: Sequence[CellDrawing]) -> str:
    """Return a box per cell, in it a line per node: the sum that it is."""
    lines = [line for cell in cells for line in _formulas(cell)]
    width = max(len(line) for line in [*lines, *(cell.title for cell in cells)])
    boxes = []
    for cell in cells:
        body = [f"│ {line:<{width}} │" for line in _formulas(cell)]
        boxes.append(
            "\n".join([f"╭─ {cell.title} {'─' * (width - len(cell.title) - 1)}╮", *body, f"╰{'─' * (width + 2)}╯"])
        )
    return "\n".join(boxes)


def _formulas(cell: CellDrawing) -> list[str]:
    computed = range(cell.num_inputs, len(cell.nodes))
    sums = {
        cell.nodes[node]: " + ".join(f"{op.op}({cell.nodes[op.source]})" for op in cell.ops if op.target == node)
        for node in computed
    }
    if not cell.ops:
        return [f"{cell.nodes[-1]} = nothing: no way leads there from {cell.nodes[0]}"]
    if cell.concatenated:
        sums[cell.concatenated] = f"concat({', '.join(cell.nodes[node] for node in computed)})"
    left = max(len(label) for label in sums)
    return [f"{label:<{left}} = {total}" for label, total in sums.items() if total]


def draw_svg(cells: Sequence[CellDrawing]) -> str:
    """Return an SVG document, one panel per cell, top to bottom; it needs no style sheet and no font."""
    panels = [_Panel(cell) for cell in cells]
    width = max(panel.width for panel in panels)
    height = sum(panel.height for panel in panels)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"role='img' {FONT} font-size='12'>",
        f"<title>{escape(', '.join(cell.title for cell in cells))}</title>",
        f"<rect width='{width}' height='{height}' rx='8' fill='{PAPER}'/>",
    ]
    top = 0
    for panel in panels:
        parts += [f"<g transform='translate(0 {top})'>", *panel.draw(), "</g>"]
        top += panel.height
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class _Arc:
    """An op with its place: lanes above (negative) or below (positive) the row; 0 is a straight line."""

    op: EdgeOp
    lane: int


class _Panel:
    """The layout of one cell."""

    def __init__(self, cell: CellDrawing) -> None:
        self.cell = cell
        self.arcs = _place(cell.ops)
        above = max([0, *(-arc.lane for arc in self.arcs)])
        below = max([0, *(arc.lane for arc in self.arcs)])
        self.row = TITLE_HEIGHT + above * LANE + 2 * RADIUS
        self.height = self.row + below * LANE + 2 * RADIUS + 8
        self.width = 2 * MARGIN + SPACING * (len(cell.nodes) - 1) + (SPACING // 2 if cell.concatenated else 0)

    def draw(self) -> list[str]:
        """Return SVG elements: band, lines, then labels and nodes, which cover the lines."""
        title = f"<text x='20' y='24' font-size='14' font-weight='600' fill='{INK}'>{escape(self.cell.title)}</text>"
        lines = [self._line(arc) for arc in self.arcs]
        labels = [self._label(arc) for arc in self.arcs]
        nodes = [self._node(node) for node in range(len(self.cell.nodes))]
        return [title, *self._band(), *lines, *labels, *nodes]

    def _x(self, node: int) -> int:
        return MARGIN + SPACING * node

    def _half_width(self, node: int) -> int:
        return max(RADIUS, round(len(self.cell.nodes[node]) * CHARACTER / 2) + 8)

    def _band(self) -> list[str]:
        """Return what shows that the computed nodes are concatenated."""
        if not self.cell.concatenated:
            return []
        left, right = self._x(self.cell.num_inputs) - 26, self._x(len(self.cell.nodes) - 1) + 26
        return [
            f"<rect x='{left}' y='{self.row - 22}' width='{right - left}' height='44' rx='22' fill='{BAND}'/>",
            f"<path d='M{right} {self.row} h14' stroke='{INK}' stroke-width='1.5'/>",
            _arrow_head(right + 20, self.row, "right", INK),
            f"<text x='{right + 26}' y='{self.row + 4}' fill='{INK}'>{escape(self.cell.concatenated)}</text>",
        ]

    def _line(self, arc: _Arc) -> str:
        color = COLORS.get(arc.op.op, OTHER_COLOR)
        start, end = self._x(arc.op.source), self._x(arc.op.target)
        if arc.lane == 0:
            tip = end - self._half_width(arc.op.target)
            path, head = f"M{start} {self.row} H{tip - 5}", _arrow_head(tip, self.row, "right", color)
        else:
            side = 1 if arc.lane > 0 else -1
            edge = self.row + side * RADIUS
            # The apex of this curve lies at three quarters of its control points' height.
            control = edge + round(4 / 3 * (self._label_y(arc) - edge))
            path = f"M{start} {edge} C{start} {control} {end} {control} {end} {edge + 5 * side}"
            head = _arrow_head(end, edge, "up" if side > 0 else "down", color)
        return f"<path d='{path}' fill='none' stroke='{color}' stroke-width='1.8'/>{head}"

    def _label_y(self, arc: _Arc) -> int:
        side = (arc.lane > 0) - (arc.lane < 0)
        return self.row + arc.lane * LANE + side * RADIUS

    def _label(self, arc: _Arc) -> str:
        color = COLORS.get(arc.op.op, OTHER_COLOR)
        width = round(len(arc.op.op) * CHARACTER) + 10
        x, y = (self._x(arc.op.source) + self._x(arc.op.target)) // 2, self._label_y(arc)
        if arc.lane == 0:
            x += (self._half_width(arc.op.source) - self._half_width(arc.op.target)) // 2 - 3
        return (
            f"<rect x='{x - width // 2}' y='{y - LABEL_HEIGHT // 2}' width='{width}' height='{LABEL_HEIGHT}' rx='5' "
            f"fill='{PAPER}' stroke='{color}'/>"
            f"<text x='{x}' y='{y + 4}' font-size='11' text-anchor='middle' fill='{color}'>{escape(arc.op.op)}</text>"
        )

    def _node(self, node: int) -> str:
        used = any(node in (op.source, op.target) for op in self.cell.ops)
        is_input = node < self.cell.num_inputs
        fill = INK if is_input and used else PAPER
        ink = PAPER if is_input and used else INK if used else FAINT
        stroke = f"stroke='{INK}' stroke-width='1.5'" if used else f"stroke='{FAINT}' stroke-dasharray='4 3'"
        x, half = self._x(node), self._half_width(node)
        return (
            f"<rect x='{x - half}' y='{self.row - RADIUS}' width='{2 * half}' height='{2 * RADIUS}' rx='{RADIUS}' "
            f"fill='{fill}' {stroke}/>"
            f"<text x='{x}' y='{self.row + 4}' text-anchor='middle' fill='{ink}'>{escape(self.cell.nodes[node])}</text>"
        )


def _place(ops: Sequence[EdgeOp]) -> list[_Arc]:
    """Return arcs: neighbors get the straight line, the other ops into a node lie above and below in turn."""
    arrived: Counter[int] = Counter()
    taken: set[tuple[int, int]] = set()
    sides: list[tuple[EdgeOp, int]] = []
    for op in ops:
        side = -1 if arrived[op.target] % 2 == 0 else 1
        arrived[op.target] += 1
        edge = (op.source, op.target)
        straight = op.target - op.source == 1 and edge not in taken
        sides.append((op, 0 if straight else side))
        taken.add(edge)
    # The shortest arcs lie innermost; each lies outside of all shorter ones over the same stretch of the row.
    arcs: list[_Arc] = []
    for op, side in sorted(sides, key=lambda placed: placed[0].target - placed[0].source):
        below = [abs(a.lane) for a in arcs if a.lane * side > 0 and _overlap(a.op, op)]
        arcs.append(_Arc(op, side * (1 + max(below, default=0))))
    return arcs


def _overlap(first: EdgeOp, second: EdgeOp) -> bool:
    return max(first.source, second.source) < min(first.target, second.target)


def _arrow_head(x: int, y: int, direction: str, color: str) -> str:
    """Return a triangle whose tip is at (x, y)."""
    corners = {"right": ((-8, -4), (-8, 4)), "down": ((-4, -8), (4, -8)), "up": ((-4, 8), (4, 8))}[direction]
    points = " ".join(f"{x + dx},{y + dy}" for dx, dy in ((0, 0), *corners))
    return f"<polygon points='{points}' fill='{color}'/>"
