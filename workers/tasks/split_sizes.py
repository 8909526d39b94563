"""How many images an adaptation learns from, chooses by and reports on. Pure; free of numpy, for the service."""

from collections.abc import Mapping, Sequence
from typing import Final

from workers.contracts.datasets import SplitName

HELD_OUT_SHARE: Final = 0.15
# More held-out images than this sharpen no choice, and every candidate is scored on all of them.
MAX_QUERY: Final = 1000


def query_fraction(num_images: int) -> float:
    """Return the share of the training images that architectures are compared on, 0 to 1.

    Args:
        num_images: Of the whole dataset.
    """
    return min(HELD_OUT_SHARE, MAX_QUERY / num_images)


def cut_sizes(num_images: int, fractions: Sequence[float]) -> list[int]:
    """Return how many of a class's images go to each cut: round(fraction * n), at least one; at least one is left.

    Args:
        num_images: Of the class, n; more than there are fractions.
        fractions: Of each cut, 0 to 1.
    """
    room, sizes = num_images - 1, []
    for left, fraction in zip(range(len(fractions) - 1, -1, -1), fractions, strict=True):
        sizes.append(min(max(1, round(fraction * num_images)), room - left))
        room -= sizes[-1]
    return sizes


def split_sizes(class_sizes: Sequence[int], declared: Mapping[SplitName, int]) -> dict[SplitName, int]:
    """Return the images of each split that an adaptation makes of a dataset, as `split_dataset` makes it.

    Args:
        class_sizes: Images to learn from of each class: those of `train` where there are splits.
        declared: Images of each split folder; empty where there are none.

    Returns:
        `train` to learn from, `val` to choose by, `test` to report on; empty where a class is too small to be cut.
    """
    if declared.get("val") and declared.get("test"):
        return {name: declared[name] for name in ("train", "val", "test")}
    held_out = declared.get("val", 0) + declared.get("test", 0)
    num_images = sum(class_sizes) + held_out
    fractions = (query_fraction(num_images), HELD_OUT_SHARE)[: 1 if held_out else 2]
    if min(class_sizes) <= len(fractions):
        return {}
    cuts = [sum(sizes) for sizes in zip(*(cut_sizes(size, fractions) for size in class_sizes), strict=True)]
    val, test = (*cuts, held_out)[:2]
    return {"train": sum(class_sizes) - sum(cuts), "val": val, "test": test}
