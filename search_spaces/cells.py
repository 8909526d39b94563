"""Parts of a network as data, and the ops on the edges of a cell. Free of torch.

A node is the sum of ops applied to earlier nodes; an op that no input reaches, or that no output needs, is dead.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from search_spaces.cost import layers_cost
from search_spaces.layers import Layers
from search_spaces.spec import Cost

Edge = tuple[int, int]


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
