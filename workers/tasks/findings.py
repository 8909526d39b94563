"""What people should know of a dataset before they trust what has learned from it. Free of numpy and torch."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Final

from workers.contracts.datasets import DatasetFindings, Thumbnails
from workers.tasks.layout import Placed
from workers.tasks.split_sizes import split_sizes

# Of a class of fewer images, one or two are held out: no number about it means anything.
NEAR_EMPTY: Final = 10
NUM_PAIRS: Final = 20
DIGEST_BYTES: Final = 16


class Duplicates:
    """Images whose files are the same, byte for byte; told by a hash of 16 bytes for each."""

    def __init__(self) -> None:
        self._first: dict[bytes, Placed] = {}
        self._across: list[tuple[str, str]] = []
        self._within: list[tuple[str, str]] = []
        self.count = 0
        self.across_classes = 0
        self.across_splits = 0

    def add(self, placed: Placed, data: bytes) -> None:
        """Note an image.

        Args:
            placed: Where it lies.
            data: Bytes of its file.
        """
        first = self._first.setdefault(hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest(), placed)
        if first is placed:
            return
        other_class, other_split = first.class_name != placed.class_name, first.split != placed.split
        self.count += 1
        self.across_classes += other_class
        self.across_splits += other_split
        pairs = self._across if other_class or other_split else self._within
        if len(pairs) < NUM_PAIRS:
            pairs.append((first.path, placed.path))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The paths of up to 20 pairs, those across classes or splits first."""
        return tuple((*self._across, *self._within)[:NUM_PAIRS])


def make_findings(readable: Sequence[Placed], duplicates: Duplicates, thumbnails: Thumbnails | None) -> DatasetFindings:
    """Return the findings on a dataset.

    Args:
        readable: Its usable images.
        duplicates: Among them.
        thumbnails: Of the picture of them, where there is one.
    """
    sizes = Counter(image.class_name for image in readable)
    learned = Counter(image.class_name for image in readable if image.split in {None, "train"})
    declared = Counter(image.split for image in readable if image.split is not None)
    return DatasetFindings(
        num_duplicates=duplicates.count,
        duplicates=duplicates.pairs,
        across_classes=duplicates.across_classes,
        across_splits=duplicates.across_splits,
        near_empty={name: size for name, size in sorted(sizes.items()) if size < NEAR_EMPTY},
        suggested_split=split_sizes(tuple(learned.values()), declared),
        thumbnails=thumbnails,
    )
