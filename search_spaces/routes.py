"""Which ops of a cell run, and with which weight: the one thing that tells the forms of a forward pass apart."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast

from torch import Tensor, nn

from search_spaces.architecture import Architecture
from search_spaces.cells import Edge, EdgeOp, Part, live_edges
from search_spaces.decisions import check_choices
from search_spaces.errors import InvalidOptionError
from search_spaces.modules import build_layers
from search_spaces.spec import SearchSpace

OpWeights = Tensor | Architecture


class Term(NamedTuple):
    """`weight * op(source)`, or `op(source)` where there is no weight."""

    source: int
    op: str
    weight: Tensor | None


CellRoute = tuple[tuple[Term, ...], ...]
Routes = Mapping[str, CellRoute]
WeightedOp = tuple[EdgeOp, Tensor | None]


def check_op_weights(op_weights: OpWeights, space: SearchSpace) -> None:
    """Check that an architecture belongs to a space, or that weights are [E, O].

    Raises:
        InvalidArchitectureError: An architecture of another space, or with an impossible choice.
        InvalidOptionError: Weights of another shape.
    """
    if isinstance(op_weights, Architecture):
        check_choices(op_weights, space=space.name, decisions=space.decisions)
    elif tuple(op_weights.shape) != (space.num_decisions, space.num_options):
        raise InvalidOptionError(
            f"shape of op_weights for {space.name}",
            got=list(op_weights.shape),
            expected=str([space.num_decisions, space.num_options]),
        )


def route(ops: Iterable[WeightedOp], nodes: range, outputs: Iterable[int]) -> CellRoute:
    """Return the live terms of each computed node.

    Args:
        ops: Ops in the order in which they are summed.
        nodes: Numbers of the computed nodes; the ones below are inputs.
        outputs: Nodes that are read from outside the cell.
    """
    ops = tuple(ops)
    edges = {(op.source, op.target) for op, _ in ops}
    live = live_edges(edges, inputs=range(nodes.start), outputs=outputs)
    terms: dict[int, list[Term]] = {node: [] for node in nodes}
    for op, weight in ops:
        if (op.source, op.target) in live:
            terms[op.target].append(Term(op.source, op.op, weight))
    return tuple(tuple(terms[node]) for node in nodes)


def unweighted(ops: Iterable[EdgeOp]) -> list[WeightedOp]:
    """Return ops that run as they are, without a weight."""
    return [(op, None) for op in ops]


def weighted(op_weights: Tensor, edges: Sequence[Edge], ops: Sequence[str], none: str) -> list[WeightedOp]:
    """Return the ops whose weight is not exactly 0, but for `none`, which adds nothing whatever its weight.

    Args:
        op_weights: [edges, ops]; receives gradient through the returned weights.
        edges: The row's edges.
        ops: The column's ops.
        none: The name of the op that adds nothing.
    """
    values = op_weights.detach().tolist()
    return [
        (EdgeOp(*edge, op), op_weights[e, o])
        for e, edge in enumerate(edges)
        for o, op in enumerate(ops)
        if op != none and values[e][o] != 0.0
    ]


class OpTable(nn.Module):
    """The ops on the edges of one cell; a module's name is `edges.<source>-<target>.<op>`."""

    def __init__(self, ops: Iterable[tuple[EdgeOp, Part]], *, track_statistics: bool) -> None:
        super().__init__()
        edges: dict[str, nn.ModuleDict] = {}
        for op, part in ops:
            on_edge = edges.setdefault(f"{op.source}-{op.target}", nn.ModuleDict())
            on_edge[op.op] = build_layers(part.layers, track_statistics=track_statistics)
        self.edges = nn.ModuleDict(edges)

    def forward(self, inputs: Sequence[Tensor | None], route: CellRoute) -> list[Tensor | None]:
        """Return the states of all nodes, inputs first; None where nothing enters a node.

        Args:
            inputs: States of the input nodes; None where no term reads one.
            route: Terms of each computed node.
        """
        states = list(inputs)
        for target, terms in enumerate(route, start=len(states)):
            total: Tensor | None = None
            for term in terms:
                value = self._apply_op(term, target, states)
                total = value if total is None else total + value
            states.append(total)
        return states

    def _apply_op(self, term: Term, target: int, states: Sequence[Tensor | None]) -> Tensor:
        on_edge = cast("nn.ModuleDict", self.edges[f"{term.source}-{target}"])
        value: Tensor = on_edge[term.op](states[term.source])
        return value if term.weight is None else term.weight * value
