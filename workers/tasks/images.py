"""Labeled images in memory, and how they are read from a checked archive. Free of torch.

Shapes: N images, R = side of the square in pixels.
"""

import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.contracts.datasets import DatasetReport, SplitName
from workers.contracts.errors import InvalidDatasetError
from workers.tasks.archive import DAMAGED_MEMBER, ArchivedImage, find_images
from workers.tasks.decoding import OversizedImageError, UnreadableImageError, decode_square
from workers.tasks.layout import Placed
from workers.tasks.limits import UNBOUNDED
from workers.tasks.members import open_archive, read_member

SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
MAX_THREADS = 16
SMALL_SIDE = 96


@dataclass(frozen=True, kw_only=True)
class LabeledImages:
    """Images with their classes.

    Attributes:
        images: uint8 [N, R, R, 3], RGB.
        labels: int64 [N], positions in `classes`.
        classes: Names, by label.
        splits: int8 [N], positions in `SPLITS`; None where no splits are declared.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    splits: NDArray[np.int8] | None = None

    def __len__(self) -> int:
        return len(self.labels)


def load_images(
    path: Path,
    resolution: int,
    report: DatasetReport,
    *,
    num_threads: int | None = None,
) -> LabeledImages:
    """Return the images of a checked archive, in the order of their paths.

    Args:
        path: The zip archive.
        resolution: Side R that each image is resized to; see `decode_square` for how.
        report: What the check of this archive found; images that it skipped are left out.
        num_threads: That decode; None: as `num_decoders` says. The result does not depend on it.

    Raises:
        InvalidDatasetError: The archive is not the one that `report` is about, or is damaged.
    """
    label_of = {name: label for label, name in enumerate(report.classes)}
    with checked_archive(path, report) as (archive, images):
        pixels = np.empty((len(images), resolution, resolution, 3), dtype=np.uint8)
        decode_archived(archive, images, pixels, num_threads or num_decoders(report))
    return LabeledImages(
        images=pixels,
        labels=np.array([label_of[image.placed.class_name] for image in images], dtype=np.int64),
        classes=report.classes,
        splits=split_codes([image.placed for image in images]),
    )


@contextmanager
def checked_archive(path: Path, report: DatasetReport) -> Iterator[tuple[zipfile.ZipFile, list[ArchivedImage]]]:
    """Open a checked archive; yield it with its readable images, in the order of their paths, none of them decoded.

    Args:
        path: The zip archive.
        report: What the check of this archive found; images that it skipped are left out.

    Raises:
        InvalidDatasetError: The archive is not the one that `report` is about, or is damaged.
    """
    skipped = {image.path for image in report.skipped}
    with open_archive(path, UNBOUNDED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about metadata that nobody reads
        images = [image for image in find_images(archive, UNBOUNDED) if image.placed.path not in skipped]
        if len(images) != report.total_images or {image.placed.class_name for image in images} != set(report.classes):
            todo = "Check the archive again."
            raise InvalidDatasetError("the archive is not the one that was checked", got=str(path), todo=todo)
        yield archive, images


def decode_archived(
    archive: zipfile.ZipFile, images: Sequence[ArchivedImage], pixels: NDArray[np.uint8], num_threads: int
) -> None:
    """Decode images of a checked archive into `pixels`, uint8 [N, R, R, 3]; see `decode_square` for how.

    Raises:
        InvalidDatasetError: An image can no longer be read.
    """
    resolution = pixels.shape[1]

    def decode(share: range) -> None:
        for position in share:
            image = images[position]
            try:
                data = read_member(archive, image.member)
                pixels[position] = np.asarray(decode_square(data, resolution, max_pixels=UNBOUNDED.max_pixels))
            except (UnreadableImageError, OversizedImageError, *DAMAGED_MEMBER) as error:
                what = f"the image {image.placed.path} can no longer be read"
                raise InvalidDatasetError(what, got=str(error), todo="Check the archive again.") from error

    run_shares(decode, len(images), num_threads)


def num_decoders(report: DatasetReport) -> int:
    """Return how many threads decode a dataset best.

    One per CPU of this process, or one in all where images are so small that Pillow spends its time in Python, under
    its lock.
    """
    return 1 if report.median_size < SMALL_SIDE else default_num_threads()


def default_num_threads() -> int:
    """Return the number of CPUs that this process may use, at most 16."""
    return min(len(os.sched_getaffinity(0)), MAX_THREADS)


def run_shares(work: Callable[[range], None], num_items: int, num_threads: int) -> None:
    """Call `work` with every position below `num_items`, dealt out to threads.

    Threads pay off where Pillow decodes or resizes, which it does outside of Python's lock.
    """
    if num_threads == 1:
        return work(range(num_items))
    with ThreadPoolExecutor(num_threads) as pool:
        for done in [pool.submit(work, range(first, num_items, num_threads)) for first in range(num_threads)]:
            done.result()
    return None


def split_codes(placed: Sequence[Placed]) -> NDArray[np.int8] | None:
    """Return each image's position in `SPLITS`, int8 [N], or None where the dataset declares no splits."""
    if any(image.split is None for image in placed):
        return None
    return np.array([SPLITS.index(image.split) for image in placed if image.split is not None], dtype=np.int8)
