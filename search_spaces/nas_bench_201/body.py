"""The NAS-Bench-201 network in torch, from its plan."""

import torch
from torch import Tensor, nn

from search_spaces.architecture import Architecture
from search_spaces.body import Body
from search_spaces.modules import build_layers
from search_spaces.nas_bench_201.cell import ALL_OPS, EDGES, NONE, OPS, OUTPUT, live_ops
from search_spaces.nas_bench_201.plan import Cell, Residual, plan_network
from search_spaces.routes import CellRoute, OpTable, OpWeights, Routes, route, unweighted, weighted
from search_spaces.spec import Macro

CELL = "cell"


class SearchedCell(OpTable):
    """One cell: the state of its last node; zeros where nothing enters that."""

    def run(self, x: Tensor, route: CellRoute) -> Tensor:
        """Return [N, C, H, W] for the same shape."""
        output = self([x], route)[OUTPUT]
        return torch.zeros_like(x) if output is None else output


class ResidualBlock(nn.Module):
    """The fixed block between stages: half the side, twice the channels."""

    def __init__(self, plan: Residual, *, track_statistics: bool) -> None:
        super().__init__()
        self.main = build_layers(plan.main.layers, track_statistics=track_statistics)
        self.shortcut = build_layers(plan.shortcut.layers, track_statistics=track_statistics)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, 2C, ceil(H / 2), ceil(W / 2)]."""
        total: Tensor = self.shortcut(x) + self.main(x)
        return total


class NasBench201Body(Body):
    """Stem, cells and residual blocks, pooled features."""

    def __init__(self, macro: Macro, arch: Architecture | None, *, track_statistics: bool) -> None:
        super().__init__()
        plan = plan_network(macro, ALL_OPS if arch is None else live_ops(arch.choices))
        self.num_features = plan.num_features
        self.stem = build_layers(plan.stem.layers, track_statistics=track_statistics)
        self.blocks = nn.ModuleList(
            SearchedCell(block.ops, track_statistics=track_statistics)
            if isinstance(block, Cell)
            else ResidualBlock(block, track_statistics=track_statistics)
            for block in plan.blocks
        )
        self.tail = build_layers(plan.tail.layers, track_statistics=track_statistics)

    def routes(self, op_weights: OpWeights) -> Routes:
        if isinstance(op_weights, Architecture):
            terms = unweighted(live_ops(op_weights.choices))
        else:
            terms = weighted(op_weights, EDGES, OPS, NONE)
        return {CELL: route(terms, range(1, OUTPUT + 1), outputs=(OUTPUT,))}

    def forward(self, images: Tensor, routes: Routes) -> Tensor:
        x: Tensor = self.stem(images)
        for block in self.blocks:
            x = block.run(x, routes[CELL]) if isinstance(block, SearchedCell) else block(x)
        features: Tensor = self.tail(x)
        return features
