"""The DARTS network in torch, from its plan."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.architecture import Architecture
from search_spaces.body import AuxiliaryBody
from search_spaces.cells import Part
from search_spaces.darts.cell import (
    ALL_OPS,
    EDGES,
    KINDS,
    NODES,
    NONE,
    NUM_INPUTS,
    OPS,
    PRIMITIVES,
    SLOTS,
    Kind,
    cells_of,
)
from search_spaces.darts.plan import Cell, live_outputs, plan_network
from search_spaces.errors import InvalidOptionError
from search_spaces.modules import build_layers
from search_spaces.routes import CellRoute, OpTable, OpWeights, Routes, route, unweighted, weighted
from search_spaces.spec import Macro


class SearchedCell(OpTable):
    """One cell: preprocessing of its two inputs, four nodes, their concatenation."""

    def __init__(self, plan: Cell, *, track_statistics: bool) -> None:
        super().__init__(plan.ops, track_statistics=track_statistics)
        self.preprocess_0 = _build(plan.preprocess_0, track_statistics)
        self.preprocess_1 = _build(plan.preprocess_1, track_statistics)

    def run(self, before: Tensor | None, last: Tensor | None, cell_route: CellRoute) -> Tensor:
        """Return the cell's output.

        Args:
            before: Output of the cell before the last; None where no term reads it.
            last: Output of the last cell; None where no term reads it.
            cell_route: What runs.
        """
        reads = inputs_read(cell_route)
        inputs = [
            preprocess(x) if source in reads and preprocess is not None else None
            for source, (preprocess, x) in enumerate(((self.preprocess_0, before), (self.preprocess_1, last)))
        ]
        states = self(inputs, cell_route)
        return torch.cat(states[NUM_INPUTS:], dim=1)


class DartsBody(AuxiliaryBody):
    """Stem, chain of cells, pooled features."""

    def __init__(self, macro: Macro, arch: Architecture | None, *, track_statistics: bool) -> None:
        super().__init__()
        ops = dict.fromkeys(KINDS, ALL_OPS) if arch is None else cells_of(arch.choices)
        plan = plan_network(macro, ops)
        self.num_features = plan.num_features
        self.stem_0 = build_layers(plan.stem_0.layers, track_statistics=track_statistics)
        self.stem_1 = _build(plan.stem_1, track_statistics)
        self.kinds = plan.kinds
        # By number, so that a network without dead cells keeps the names of the others.
        self.cells = nn.ModuleDict(
            {str(i): SearchedCell(cell, track_statistics=track_statistics) for i, cell in plan.cells.items()}
        )
        self.tail = build_layers(plan.tail.layers, track_statistics=track_statistics)
        self.auxiliary = _build(plan.auxiliary, track_statistics)
        self.auxiliary_cell = plan.auxiliary_cell

    def routes(self, op_weights: OpWeights) -> Routes:
        if isinstance(op_weights, Architecture):
            terms = {kind: unweighted(ops) for kind, ops in cells_of(op_weights.choices).items()}
        else:
            terms = {kind: weighted(w, EDGES, PRIMITIVES, NONE) for kind, w in edge_weights(op_weights).items()}
        routes: dict[str, CellRoute] = {kind: route(terms[kind], NODES, outputs=NODES) for kind in KINDS}
        if not all(node_terms for cell in routes.values() for node_terms in cell):
            raise InvalidOptionError(
                "op_weights of a node", got="zeros only", expected="a point on the simplex per row"
            )
        return routes

    def forward(self, images: Tensor, routes: Routes) -> Tensor:
        last, _ = self._run(images, routes)
        features: Tensor = self.tail(last)
        return features

    def forward_with_auxiliary(self, images: Tensor, routes: Routes) -> tuple[Tensor, Tensor]:
        last, middle = self._run(images, routes)
        if self.auxiliary is None or middle is None:
            raise InvalidOptionError("auxiliary head", expected="a network that was built with one")
        return self.tail(last), self.auxiliary(middle)

    def _run(self, images: Tensor, routes: Routes) -> tuple[Tensor, Tensor | None]:
        """Return the output of the last cell and of the one that an auxiliary head reads, unless that is dead."""
        live = live_outputs(self.kinds, {kind: inputs_read(routes[kind]) for kind in KINDS})
        middle: Tensor | None = None
        before: Tensor | None = self.stem_0(images)
        last: Tensor | None = before
        if self.stem_1 is not None:
            last = self.stem_1(before)
        # The last cell is always live: `last` ends as a tensor.
        for i, kind in enumerate(self.kinds):
            output = self._cell(i).run(before, last, routes[kind]) if i in live else None
            before, last = last, output
            if i == self.auxiliary_cell:
                middle = output
        return cast("Tensor", last), middle

    def _cell(self, i: int) -> SearchedCell:
        return cast("SearchedCell", self.cells[str(i)])


def edge_weights(op_weights: Tensor) -> dict[Kind, Tensor]:
    """Return the weights on a cell's edges that weights on its slots amount to: an edge's op gets those of both slots.

    Args:
        op_weights: [16, 35], padded; receives gradient.

    Returns:
        Per kind [14, 8], rows as `EDGES`, columns as `PRIMITIVES`; `none` has weight 0.
    """
    half = op_weights.shape[0] // len(KINDS)
    return {kind: _cell_edge_weights(op_weights[k * half : (k + 1) * half]) for k, kind in enumerate(KINDS)}


def _cell_edge_weights(slots: Tensor) -> Tensor:
    nodes = [
        slots[SLOTS * n : SLOTS * (n + 1), : node * len(OPS)].sum(dim=0).view(node, len(OPS))
        for n, node in enumerate(NODES)
    ]
    return F.pad(torch.cat(nodes), (1, 0))


def inputs_read(cell_route: CellRoute) -> set[int]:
    """Return which of the cell's inputs a route reads."""
    return {term.source for terms in cell_route for term in terms if term.source < NUM_INPUTS}


def _build(part: Part | None, track_statistics: bool) -> nn.Sequential | None:
    return None if part is None else build_layers(part.layers, track_statistics=track_statistics)
