"""From scores to cells: the best valid pair of slots per node, and the rule of the DARTS paper."""

from collections.abc import Sequence
from itertools import product

from search_spaces.cells import EdgeOp
from search_spaces.darts.cell import EDGES, NODES, NONE, PRIMITIVES, SLOTS, CellOps, node_options


def valid_pair(first: EdgeOp, second: EdgeOp, *, distinct_predecessors: bool) -> bool:
    """Return whether one node may hold both: never the same op of the same predecessor twice."""
    return first.source != second.source if distinct_predecessors else first != second


def best_pair(
    first: Sequence[float], second: Sequence[float], node: int, *, distinct_predecessors: bool
) -> tuple[int, int]:
    """Return the choices for the two slots of a node with the largest sum of scores among the valid pairs.

    Args:
        first: Scores of the first slot's options.
        second: Scores of the second slot's options.
        node: The node, 2 to 5.
        distinct_predecessors: Whether the slots must read different nodes.
    """
    options = node_options(node)
    pairs = (
        pair
        for pair in product(range(len(options)), repeat=SLOTS)
        if valid_pair(options[pair[0]], options[pair[1]], distinct_predecessors=distinct_predecessors)
    )
    a, b = max(pairs, key=lambda pair: first[pair[0]] + second[pair[1]])
    return a, b


def darts_rule(edge_weights: Sequence[Sequence[float]]) -> CellOps:
    """Return the cell that the DARTS paper derives from weights on edges.

    Each node keeps the two edges whose largest weight on an op other than `none` is largest, strongest first, and on
    each of them that op.

    Args:
        edge_weights: [14, 8], rows as `EDGES`, columns as `PRIMITIVES`.
    """
    kept: list[EdgeOp] = []
    for node in NODES:
        best = []
        for edge, row in zip(EDGES, edge_weights, strict=True):
            if edge[1] == node:
                weight, op = max(
                    ((w, name) for w, name in zip(row, PRIMITIVES, strict=True) if name != NONE),
                    key=lambda pair: pair[0],
                )
                best.append((weight, EdgeOp(*edge, op)))
        best.sort(key=lambda pair: -pair[0])
        kept += [op for _, op in best[:SLOTS]]
    return tuple(kept)
