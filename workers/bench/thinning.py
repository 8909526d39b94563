"""Fewer images of a dataset: of every class, in every split folder, the same share. Pure."""

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np


def thinned(groups: Sequence[Hashable], max_images: int) -> frozenset[int]:
    """Return the positions of the images that stay; of each group at least one, drawn by a fixed seed.

    Shares are rounded down, then the largest rests get one more (the method of Hare and Niemeyer).

    Args:
        groups: What each image belongs to, such as its split and its class.
        max_images: Most that stay, unless there are more groups.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for position, group in enumerate(groups):
        members[group].append(position)
    if len(groups) <= max_images:
        return frozenset(range(len(groups)))
    exact = {group: len(positions) * max_images / len(groups) for group, positions in members.items()}
    counts = {group: max(1, int(share)) for group, share in exact.items()}
    spare = max(0, max_images - sum(counts.values()))
    for group in sorted(exact, key=lambda one: int(exact[one]) - exact[one])[:spare]:
        counts[group] += 1
    generator = np.random.default_rng(0)
    return frozenset(
        int(position)
        for group, positions in members.items()
        for position in generator.permutation(positions)[: counts[group]]
    )
