"""The network of the mobile space in torch, from its plan."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from search_spaces.architecture import Architecture
from search_spaces.body import Body
from search_spaces.cells import Part
from search_spaces.errors import InvalidOptionError
from search_spaces.mobile.chain import LAYERS, SKIP, layer_options, ops_of
from search_spaces.mobile.plan import plan_network
from search_spaces.mobile.slices import largest, slice_of, sliced
from search_spaces.modules import build_layers
from search_spaces.routes import OpWeights, Routes, Term
from search_spaces.spec import Macro

CHAIN: Final = "chain"

Sharing = Literal["separate", "slices"]


class SearchedLayer(nn.Module):
    """One layer of the chain: the weighted sum of its ops, each with weights of its own."""

    def __init__(self, ops: Sequence[tuple[str, Part]], *, track_statistics: bool) -> None:
        super().__init__()
        self.ops = nn.ModuleDict({op: build_layers(part.layers, track_statistics=track_statistics) for op, part in ops})

    def forward(self, x: Tensor, terms: Sequence[Term]) -> Tensor:
        """Return the layer's output for its input."""
        first, *others = (self._weighted(x, term) for term in terms)
        return sum(others, start=first)

    def _weighted(self, x: Tensor, term: Term) -> Tensor:
        value = self.apply_op(term.op, x)
        return value if term.weight is None else term.weight * value

    def apply_op(self, op: str, x: Tensor) -> Tensor:
        """Return what one op makes of the input."""
        value: Tensor = self.ops[op](x)
        return value


class SharedLayer(SearchedLayer):
    """A layer whose smaller blocks run on slices of the largest ones' weights, which alone are parameters."""

    def __init__(self, ops: Sequence[tuple[str, Part]], *, track_statistics: bool) -> None:
        whole = [(op, part) for op, part in ops if op == SKIP or op == largest(op)]
        super().__init__(whole, track_statistics=track_statistics)
        with torch.device("meta"):
            # Modules without weights, in a plain mapping: no part of this one.
            self._smaller: Mapping[str, nn.Module] = {
                op: build_layers(part.layers, track_statistics=track_statistics)
                for op, part in ops
                if op not in self.ops
            }

    def apply_op(self, op: str, x: Tensor) -> Tensor:
        if op in self.ops:
            return super().apply_op(op, x)
        small = self._smaller[op]
        large = dict(self.ops[largest(op)].named_parameters())
        weights = {name: slice_of(large[name], like.shape) for name, like in small.named_parameters()}
        value: Tensor = functional_call(small, weights, (x,))
        return value


class MobileBody(Body):
    """Stem, chain of layers, pooled features.

    Args:
        macro: The skeleton.
        arch: What to build; None: every op.
        track_statistics: Whether batch norm keeps running statistics.
        sharing: Of a body with every op: whether each block has weights of its own, or slices of the largest one's.
            `docs/search-spaces.md` says what was measured of both.
    """

    def __init__(
        self, macro: Macro, arch: Architecture | None, *, track_statistics: bool, sharing: Sharing = "separate"
    ) -> None:
        super().__init__()
        every = [layer_options(layer) for _, layer in LAYERS]
        plan = plan_network(macro, every if arch is None else [(op,) for op in ops_of(arch.choices)])
        build = SharedLayer if arch is None and sharing == "slices" else SearchedLayer
        self.num_features = plan.num_features
        self.stem = build_layers(plan.stem.layers, track_statistics=track_statistics)
        self.layers = nn.ModuleList(build(layer.ops, track_statistics=track_statistics) for layer in plan.layers)
        self.decisions = tuple(layer.decision for layer in plan.layers)
        self.tail = build_layers(plan.tail.layers, track_statistics=track_statistics)

    def routes(self, op_weights: OpWeights) -> Routes:
        if isinstance(op_weights, Architecture):
            return {CHAIN: tuple((Term(e, op, None),) for e, op in enumerate(ops_of(op_weights.choices)))}
        values = op_weights.detach().tolist()
        terms = tuple(
            tuple(Term(e, op, op_weights[e, o]) for o, op in enumerate(layer_options(layer)) if values[e][o] != 0.0)
            for e, (_, layer) in enumerate(LAYERS)
        )
        if not all(terms):
            raise InvalidOptionError(
                "op_weights of a layer", got="zeros only", expected="a point on the simplex per row"
            )
        return {CHAIN: terms}

    def forward(self, images: Tensor, routes: Routes) -> Tensor:
        x: Tensor = self.stem(images)
        for layer, decision in zip(self.layers, self.decisions, strict=True):
            x = layer(x, routes[CHAIN][decision])
        features: Tensor = self.tail(x)
        return features

    def slices(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return sliced({name: p.shape for name, p in self.named_parameters()}, parameters)
