"""How much of a cluster each worker of an adaptation takes. Pure; free of torch and of Ray."""

import math
from collections.abc import Mapping, Sequence

from search_spaces.errors import InvalidOptionError
from workers.adapt.plan import MAX_CPUS_PER_WORKER

Node = Mapping[str, float]
"""Resources of one node by Ray's names: CPU, GPU."""


def share_of_cluster(nodes: Sequence[Node], num_workers: int) -> tuple[int, int]:
    """Return CPUs and GPUs of each worker: as many as let all workers be placed at once, within whole nodes.

    GPUs are used where each worker can have one, else none are.

    Args:
        nodes: That are alive.
        num_workers: At least 1.

    Raises:
        InvalidOptionError: Not even with one CPU each; Ray would wait for ever for a place.
    """
    for gpus in (1, 0):
        for cpus in range(MAX_CPUS_PER_WORKER, 0, -1):
            if sum(_places(node, cpus, gpus) for node in nodes) >= num_workers:
                return cpus, gpus
    total = sum(int(node.get("CPU", 0)) for node in nodes)
    raise InvalidOptionError(
        "more workers than the cluster has CPUs",
        got=num_workers,
        expected=f"at most {total}",
        todo=f"Ask for num_workers of {total} or less, or give the cluster more CPUs.",
    )


def _places(node: Node, cpus: int, gpus: int) -> int:
    by_gpu = node.get("GPU", 0) // gpus if gpus else math.inf
    return int(min(node.get("CPU", 0) // cpus, by_gpu))
