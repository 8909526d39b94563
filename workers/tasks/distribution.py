"""Where meta-training's tasks come from: N-way subsets of the classes of some datasets, at several resolutions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from search_spaces.errors import InvalidOptionError
from workers.contracts.datasets import SplitName
from workers.contracts.errors import InvalidDatasetError
from workers.tasks.images import SPLITS, LabeledImages


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassImages:
    """All images of some classes, once in memory.

    Attributes:
        images: uint8 [N, R, R, 3].
        labels: int64 [N], positions in `class_names`.
        class_names: Distinct, by label.
        dataset_ids: Number of the dataset that each class belongs to, by label; empty: all belong to one.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    dataset_ids: tuple[int, ...] = ()

    @classmethod
    def from_labeled(cls, labeled: LabeledImages, *, split: SplitName | None = None) -> Self:
        """Return a dataset's classes, sharing its memory; with `split`, only the images that it declares to be there.

        Raises:
            InvalidDatasetError: It declares no such split.
        """
        images, labels = torch.from_numpy(labeled.images), torch.from_numpy(labeled.labels)
        if split is not None:
            if labeled.splits is None:
                raise InvalidDatasetError("the dataset declares no splits", got=split, todo="Use all of its images.")
            chosen = torch.from_numpy(labeled.splits == SPLITS.index(split))
            images, labels = images[chosen], labels[chosen]
        return cls(images=images, labels=labels, class_names=labeled.classes)

    @classmethod
    def join(cls, parts: Sequence["ClassImages"]) -> Self:
        """Return the classes of several datasets together; a task still keeps to one of them.

        Raises:
            InvalidDatasetError: Two datasets share the name of a class, or their images differ in size.
        """
        names = [name for part in parts for name in part.class_names]
        shared = sorted({name for name in names if names.count(name) > 1})
        if shared:
            todo = "Rename them in one dataset."
            raise InvalidDatasetError("datasets share names of classes", got=", ".join(shared[:5]), todo=todo)
        shapes = {tuple(part.images.shape[1:]) for part in parts}
        if len(shapes) != 1:
            expected = "one resolution for all datasets"
            raise InvalidDatasetError("datasets to be joined differ in size", got=sorted(shapes), expected=expected)
        labels, ids, num_classes, num_datasets = [], [], 0, 0
        for part in parts:
            labels.append(part.labels + num_classes)
            own_ids = part.dataset_ids or (0,) * len(part.class_names)
            ids += [num_datasets + own for own in own_ids]
            num_classes += len(part.class_names)
            num_datasets += 1 + max(own_ids)
        return cls(
            images=torch.cat([part.images for part in parts]),
            labels=torch.cat(labels),
            class_names=tuple(names),
            dataset_ids=tuple(ids),
        )

    def subset(self, names: Sequence[str]) -> Self:
        """Return the classes named, relabeled in that order.

        Raises:
            InvalidDatasetError: There is no such class.
        """
        label_of = {name: label for label, name in enumerate(self.class_names)}
        unknown = sorted(set(names) - label_of.keys())
        if unknown:
            raise InvalidDatasetError("the data lack classes that were named", got=", ".join(unknown[:5]))
        old_labels = [label_of[name] for name in names]
        relabel = torch.full((len(self.class_names),), -1)
        relabel[old_labels] = torch.arange(len(names))
        labels = relabel[self.labels]
        chosen = labels >= 0
        return type(self)(
            images=self.images[chosen],
            labels=labels[chosen],
            class_names=tuple(names),
            dataset_ids=tuple(self.dataset_ids[label] for label in old_labels) if self.dataset_ids else (),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class RawTask:
    """An N-way task as bytes: support and query are disjoint, every class is in both.

    Attributes:
        support_images: uint8 [S, r, r, 3], before they are resized to `resolution`.
        support_labels: int64 [S], 0 to N - 1, the classes in turn.
        query_images: uint8 [Q, r, r, 3].
        query_labels: int64 [Q], 0 to N - 1, the classes in turn.
        class_ids: int64 [N], position of each of the task's classes among the distribution's.
        resolution: Side to resize to, in pixels.
        num_examples: N_t: images of these classes that the task may use.
    """

    support_images: Tensor
    support_labels: Tensor
    query_images: Tensor
    query_labels: Tensor
    class_ids: Tensor
    resolution: int
    num_examples: int

    @property
    def num_ways(self) -> int:
        return len(self.class_ids)


class TaskDistribution:
    """Draws tasks; every draw is a function of the generator alone.

    A task keeps to one dataset, and its classes are drawn alike.

    Args:
        classes: What tasks are made of.
        resolutions: Image sides in pixels, by weight.
        dataset_weights: How often tasks, and images of batches, come from each dataset, relative; in the order of
            `dataset_ids`. None: by its number of classes, so that every class is met equally often.

    Raises:
        InvalidDatasetError: Fewer than two classes, or a class with fewer than two images.
        InvalidOptionError: Weights that are not positive, or not one for each dataset.
    """

    def __init__(
        self,
        classes: ClassImages,
        resolutions: Mapping[int, float],
        dataset_weights: Sequence[float] | None = None,
    ) -> None:
        if len(classes.class_names) < 2:
            raise InvalidDatasetError("too few classes for tasks", got=len(classes.class_names), expected="at least 2")
        if not resolutions or min(resolutions) < 1 or min(resolutions.values()) <= 0:
            raise InvalidOptionError("resolutions", got=dict(resolutions), expected="sides in pixels with weights > 0")
        self.classes = classes
        self._sides = list(resolutions)
        self._weights = torch.tensor(list(resolutions.values()), dtype=torch.float64)
        # Images of class c are `order[starts[c] : starts[c] + counts[c]]`.
        self._order = torch.argsort(classes.labels, stable=True)
        self._counts = torch.bincount(classes.labels, minlength=self.num_classes)
        self._starts = torch.cumsum(self._counts, 0) - self._counts
        for name, count in zip(classes.class_names, self._counts.tolist(), strict=True):
            if count < 2:
                raise InvalidDatasetError(f"the class {name} has too few images", got=count, expected="at least 2")
        ids = classes.dataset_ids or (0,) * self.num_classes
        self._datasets = [torch.nonzero(torch.tensor(ids) == number).flatten() for number in sorted(set(ids))]
        sizes = torch.tensor(self.num_classes_by_dataset, dtype=torch.float64)
        self._dataset_weights, self._class_weights = sizes, None
        if dataset_weights is not None:
            if len(dataset_weights) != len(sizes) or not all(0 < weight < math.inf for weight in dataset_weights):
                expected = f"a weight > 0 for each of {len(sizes)} datasets"
                raise InvalidOptionError("dataset_weights", got=tuple(dataset_weights), expected=expected)
            self._dataset_weights = torch.tensor(dataset_weights, dtype=torch.float64)
            self._class_weights = torch.empty(self.num_classes, dtype=torch.float64)
            for members, share in zip(self._datasets, self._dataset_weights / sizes, strict=True):
                self._class_weights[members] = share

    @property
    def num_classes(self) -> int:
        return len(self.classes.class_names)

    @property
    def num_classes_by_dataset(self) -> tuple[int, ...]:
        return tuple(map(len, self._datasets))

    def sample(
        self,
        generator: torch.Generator,
        *,
        num_ways: tuple[int, int],
        sizes: tuple[int, int],
        num_examples: tuple[int, int] | None = None,
    ) -> RawTask:
        """Draw a task.

        Args:
            generator: On the CPU.
            num_ways: Fewest and most classes; a dataset with fewer than the most gives at most what it has.
            sizes: Images of the support and of the query, balanced over the classes; at least one of each class. A
                class with too few images repeats some, never across the two.
            num_examples: Fewest and most images that the task may use, a number drawn log-uniformly and shared out
                over the classes alike, two of each at the least; None: all that its classes have.

        Raises:
            InvalidDatasetError: A dataset has fewer classes than the fewest ways.
        """
        fewest, most = num_ways
        smallest = min(self.num_classes_by_dataset)
        if fewest > smallest:
            todo = "Ask for fewer ways, or leave the dataset out."
            expected = f"at least {fewest}"
            raise InvalidDatasetError(
                "too few classes for the ways asked for", got=smallest, expected=expected, todo=todo
            )
        members = self._draw_dataset(generator)
        ways = int(torch.randint(fewest, min(most, len(members)) + 1, (), generator=generator))
        class_ids = members[torch.randperm(len(members), generator=generator)[:ways]]
        side = self._draw_side(generator)
        each = None if num_examples is None else -(-_log_uniform(num_examples, generator) // ways)
        support, query, num_images = [], [], 0
        for start, found in zip(self._starts[class_ids].tolist(), self._counts[class_ids].tolist(), strict=True):
            count = found if each is None else min(found, max(2, each))
            images = self._order[start + torch.randperm(found, generator=generator)[:count]]
            num_images += count
            # The query gets its share of a small class, at least one image and not all.
            cut = max(1, min(count - 1, round(count * sizes[0] / sum(sizes))))
            support.append(images[:cut])
            query.append(images[cut:])
        support_index, support_labels = _in_turn(support, max(sizes[0], ways))
        query_index, query_labels = _in_turn(query, max(sizes[1], ways))
        return RawTask(
            support_images=self.classes.images.index_select(0, support_index),
            support_labels=support_labels,
            query_images=self.classes.images.index_select(0, query_index),
            query_labels=query_labels,
            class_ids=class_ids,
            resolution=side,
            num_examples=num_images,
        )

    def sample_batch(
        self, generator: torch.Generator, size: int, *, set_aside: float = 0.0, from_aside: bool = False
    ) -> tuple[Tensor, Tensor, int]:
        """Draw images of all classes of a dataset alike, whatever their numbers of images.

        Args:
            generator: On the CPU.
            size: Number of images.
            set_aside: Share of each class's images, the last of them, that are set aside: at least one, and not all.
            from_aside: Whether to draw from these alone; else from the others alone.

        Returns:
            uint8 [size, r, r, 3], class ids int64 [size], and the side to resize to, in pixels.
        """
        if self._class_weights is None:
            class_ids = torch.randint(self.num_classes, (size,), generator=generator)
        else:
            class_ids = torch.multinomial(self._class_weights, size, replacement=True, generator=generator)
        counts = self._counts[class_ids]
        first, last = torch.zeros_like(counts), counts
        if set_aside:
            cut = torch.minimum((counts * (1 - set_aside)).round().long().clamp_min(1), counts - 1)
            first, last = (cut, counts) if from_aside else (first, cut)
        turns = first + (torch.rand(size, generator=generator) * (last - first)).long()
        index = self._order[self._starts[class_ids] + turns]
        return self.classes.images.index_select(0, index), class_ids, self._draw_side(generator)

    def _draw_dataset(self, generator: torch.Generator) -> Tensor:
        """Return the class ids of a dataset."""
        if len(self._datasets) == 1:
            return self._datasets[0]
        return self._datasets[int(torch.multinomial(self._dataset_weights, 1, generator=generator))]

    def _draw_side(self, generator: torch.Generator) -> int:
        return self._sides[int(torch.multinomial(self._weights, 1, generator=generator))]


def _log_uniform(ends: tuple[int, int], generator: torch.Generator) -> int:
    """Return a number between two ends, small ones as likely as large ones: uniform in its logarithm."""
    low, high = map(math.log, ends)
    return round(math.exp(low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))))


def _in_turn(members: Sequence[Tensor], size: int) -> tuple[Tensor, Tensor]:
    """Return `size` indices and labels, the classes in turn, each class's images from its first on."""
    counts = torch.tensor([len(images) for images in members])
    starts = torch.cumsum(counts, 0) - counts
    labels = torch.arange(size) % len(members)
    turns = torch.arange(size) // len(members)
    return torch.cat(list(members))[starts[labels] + turns % counts[labels]], labels
