"""What is known of an uploaded dataset once its archive has been checked."""

from typing import Literal

from pydantic import Field

from workers.contracts.base import Contract, StoredContract

SplitName = Literal["train", "val", "test"]


class SkippedImage(Contract):
    """An image that was left out, and why."""

    path: str
    reason: str


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
