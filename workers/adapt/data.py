"""The images of one adaptation on the device: to learn from, to choose by, to report on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from workers.adapt.plan import SIDE_OF_FULL_BATCHES, SplitSizes
from workers.tasks.batches import augment, to_batch
from workers.tasks.split import NO_REPEATS, Repeats

# One of so many images that choices were made by is held out to the end.
WATCHED: Final = 4


@dataclass(frozen=True, kw_only=True)
class Part:
    """Images uint8 [N, R, R, 3] and labels [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, number: int) -> "Part":
        """Return the first images; support and query are in random order."""
        return Part(images=self.images[:number], labels=self.labels[:number])

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images once, in order, as normalized batches with their labels: at most `size`, see `at_once`."""
        size = at_once(size, self.images.shape[1])
        for start in range(0, len(self), size):
            images = self.images[start : start + size]
            yield to_batch(images, images.shape[1]), self.labels[start : start + size]


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """One dataset, split: `support` to learn from, `query` to choose by, `test` to report on, never chosen by."""

    support: Part
    query: Part
    test: Part
    classes: tuple[str, ...]
    repeats: Repeats = NO_REPEATS

    @property
    def sizes(self) -> SplitSizes:
        return SplitSizes(train=len(self.support), query=len(self.query), test=len(self.test))

    @property
    def resolution(self) -> int:
        return self.support.images.shape[1]

    def after_choice(self) -> tuple[Part, Part]:
        """Return what to learn from once nothing is to be chosen, and a quarter of the query, to watch that."""
        watched = self.query.first(max(1, len(self.query) // WATCHED))
        rest = Part(images=self.query.images[len(watched) :], labels=self.query.labels[len(watched) :])
        parts = (self.support, rest)
        learned = Part(
            images=torch.cat([part.images for part in parts]), labels=torch.cat([part.labels for part in parts])
        )
        return learned, watched


class SupportStream:
    """Endless batches of the support: each epoch in a new order, so that small datasets are seen evenly.

    Args:
        support: To draw from.
        size: Images of a batch.
        flip: Whether to mirror.
        generator: On the CPU; of order and augmentation.
    """

    def __init__(self, support: Part, size: int, *, flip: bool, generator: torch.Generator) -> None:
        self._support, self._size, self._flip, self._generator = support, size, flip, generator
        self._order = torch.empty(0, dtype=torch.int64)

    def next(self, side: int) -> tuple[Tensor, Tensor]:
        """Return the next batch at `side` pixels, normalized and augmented, and its labels."""
        while len(self._order) < self._size:
            self._order = torch.cat([self._order, torch.randperm(len(self._support), generator=self._generator)])
        index, self._order = self._order[: self._size], self._order[self._size :]
        index = index.to(self._support.labels.device)
        batch = to_batch(self._support.images[index], side)
        return augment(batch, self._generator, flip=self._flip, fill="edge"), self._support.labels[index]


def at_once(number: int, side: int) -> int:
    """Return how many images of a side have no more pixels than so many of 32 pixels, at least 1: bounds memory."""
    return max(1, number * SIDE_OF_FULL_BATCHES**2 // max(SIDE_OF_FULL_BATCHES, side) ** 2)


def make_part(images: np.ndarray, labels: np.ndarray, index: np.ndarray, device: torch.device) -> Part:
    """Return the images at `index` on the device."""
    return Part(
        images=torch.from_numpy(np.ascontiguousarray(images[index])).to(device),
        labels=torch.from_numpy(labels[index]).to(device),
    )
