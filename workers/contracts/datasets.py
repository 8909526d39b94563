"""What is known of an uploaded dataset once its archive has been checked."""

from typing import Literal

from pydantic import Field

from workers.contracts.base import Contract, StoredContract

SplitName = Literal["train", "val", "test"]


class SkippedImage(Contract):
    """An image that was left out, and why."""

    path: str
    reason: str


class Thumbnails(Contract):
    """One picture of small images (`thumbnails.jpg`): a row for each class, examples from left to right.

    Attributes:
        side: Of the square that each small image lies in, in pixels; there is nothing between the squares.
        columns: Most examples of a class.
        classes: That have a row, from the top; the first ones of a dataset that has more than there is room for.
    """

    side: int
    columns: int
    classes: tuple[str, ...]


class DatasetFindings(StoredContract):
    """What people should know of a dataset before they trust a network that has learned from it (`findings.json`).

    Attributes:
        num_duplicates: Images whose bytes are those of an image before them.
        duplicates: Paths of a few such pairs, the image before and the one that repeats it; those across splits or
            classes first.
        across_classes: How many of the duplicates are of another class than what they repeat.
        across_splits: How many are in another split folder, so that a test image was learned from.
        near_empty: Classes with so few images that nothing can be said of them, and how many they have.
        suggested_split: Images of each split that an adaptation makes: those of the archive as far as it has them, and
            what is cut from its training images; empty where a class is too small to be cut.
        thumbnails: Of the picture, where one was made.
    """

    num_duplicates: int = 0
    duplicates: tuple[tuple[str, str], ...] = ()
    across_classes: int = 0
    across_splits: int = 0
    near_empty: dict[str, int] = Field(default_factory=dict)
    suggested_split: dict[SplitName, int] = Field(default_factory=dict)
    thumbnails: Thumbnails | None = None


class DatasetReport(StoredContract):
    """The findings of the archive check: what the dataset holds and what was left out.

    Attributes:
        classes: Class names, sorted; the position of a name is its label.
        num_images: Usable images per class, in the order of `classes`, over all splits.
        splits: Usable images per split folder; empty where the archive has no train / val / test folders.
        median_size: Median of the shorter image side, in pixels.
        min_size: Smallest shorter side, in pixels.
        max_size: Largest longer side, in pixels.
        modes: Number of images per Pillow mode, such as L or RGB.
        skipped: Unreadable images (below one percent of all), which no later step reads.
    """

    classes: tuple[str, ...]
    num_images: tuple[int, ...]
    splits: dict[SplitName, int] = Field(default_factory=dict)
    median_size: int
    min_size: int
    max_size: int
    modes: dict[str, int]
    skipped: tuple[SkippedImage, ...] = ()

    @property
    def total_images(self) -> int:
        return sum(self.num_images)
