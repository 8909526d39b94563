"""Parts of a network as data, and the ops on the edges of a cell. Free of torch.

A node is the sum of ops applied to earlier nodes; an op that no input reaches, or that no output needs, is dead.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from search_spaces.cost import layers_cost
from search_spaces.layers import Layers
from search_spaces.spec import Cost, Depth

Edge = tuple[int, int]
Term = tuple[str, tuple[Any, ...]]
"""An op and the sum that it reads, which is terms again; or the name of an input, and nothing."""


class EdgeOp(NamedTuple):
    """An op on the edge from node `source` to node `target`."""

    source: int
    target: int
    op: str


@dataclass(frozen=True)
class Part:
    """Layers and the side of their input, in pixels."""

    layers: Layers
    side: int

    @property
    def cost(self) -> Cost:
        """The cost of these layers on one image."""
        return layers_cost(self.layers, self.side)


def live_edges(edges: Iterable[Edge], *, inputs: Iterable[int], outputs: Iterable[int]) -> set[Edge]:
    """Return the edges on some path from an input node to an output node.

    Args:
        edges: (source, target) pairs, source < target.
        inputs: Nodes that hold data from outside.
        outputs: Nodes that are read from outside.
    """
    ordered = sorted(set(edges), key=lambda edge: edge[1])
    fed, needed = set(inputs), set(outputs)
    for source, target in ordered:
        if source in fed:
            fed.add(target)
    for source, target in reversed(ordered):
        if target in needed:
            needed.add(source)
    return {(source, target) for source, target in ordered if source in fed and target in needed}


def node_sums(
    ops: Iterable[EdgeOp], *, inputs: Iterable[int], identity: str | None = None
) -> dict[int, tuple[Term, ...]]:
    """Return what each node that an input reaches is the sum of; equal sums are equal, in whatever order ops come.

    Args:
        ops: Of a cell.
        inputs: Nodes that hold data from outside.
        identity: Name of the op that leaves what it reads as it is, whose term is the sum that it reads.
    """
    sums: dict[int, tuple[Term, ...]] = {node: ((f"input {node}", ()),) for node in inputs}
    for node, group in groupby(sorted(ops, key=lambda op: op.target), key=lambda op: op.target):
        terms: list[Term] = []
        for op in group:
            if op.source in sums:
                terms += sums[op.source] if op.op == identity else [(op.op, sums[op.source])]
        if terms:
            sums[node] = tuple(sorted(terms))
    return sums


def depth_of(ops: Iterable[EdgeOp], *, inputs: Iterable[int], outputs: Iterable[int]) -> Depth:
    """Return the ops with weights on the longest and on the shortest way from an input node to an output node.

    Args:
        ops: Those that act, each from a lower to a higher node.
        inputs: Nodes that hold data from outside.
        outputs: Nodes that are read from outside, at least one of them reached.
    """
    longest = dict.fromkeys(inputs, 0)
    shortest = dict(longest)
    for op in sorted(ops, key=lambda op: op.target):
        if op.source in longest:
            weighted = is_weighted(op.op)
            longest[op.target] = max(longest.get(op.target, 0), longest[op.source] + weighted)
            through = shortest[op.source] + weighted
            shortest[op.target] = min(shortest.get(op.target, through), through)
    reached = [node for node in outputs if node in longest]
    return Depth(longest=max(longest[node] for node in reached), shortest=min(shortest[node] for node in reached))


def is_weighted(op: str) -> bool:
    """Return whether an op has weights to learn: all convolutions do, skips and poolings do not."""
    return "conv" in op
