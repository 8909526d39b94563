"""Images decoded once into a file that processes map into memory. Free of torch.

A file is a plain `.npy` of uint8 [N, R, R, 3]: chosen classes one after the other, each class's images in the order of
their paths; or a whole dataset's images in that order.
"""

import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from workers.contracts.datasets import DatasetReport
from workers.contracts.errors import InvalidDatasetError, NodeCacheError
from workers.tasks.archive import ArchivedImage
from workers.tasks.class_split import MIN_IMAGES
from workers.tasks.images import LabeledImages, checked_archive, decode_archived, num_decoders, split_codes

CHUNK_BYTES: Final = 32 << 20
IMAGES, LABELS, SPLIT_CODES = "images.npy", "labels.npy", "splits.npy"


def write_labeled(path: Path, resolution: int, report: DatasetReport, folder: Path) -> None:
    """Decode a checked archive into files that `map_labeled` reads, in constant memory.

    Args:
        path: The zip archive.
        resolution: Side R that each image is resized to; see `decode_square` for how.
        report: What the check of this archive found; images that it skipped are left out.
        folder: To write into.

    Raises:
        InvalidDatasetError: The archive is not the one that `report` is about, or is damaged.
    """
    label_of = {name: label for label, name in enumerate(report.classes)}
    with checked_archive(path, report) as (archive, images), growing_pixels(folder / IMAGES, resolution) as file:
        append_images(file, archive, images, resolution, num_decoders(report))
    placed = [image.placed for image in images]
    np.save(folder / LABELS, np.array([label_of[image.class_name] for image in placed], dtype=np.int64))
    if (codes := split_codes(placed)) is not None:
        np.save(folder / SPLIT_CODES, codes)


def map_labeled(folder: Path, classes: tuple[str, ...]) -> LabeledImages:
    """Return what `load_images` gives, its images mapped from the files that `write_labeled` wrote.

    Raises:
        NodeCacheError: A file is missing or damaged.
    """
    try:
        codes = folder / SPLIT_CODES
        return LabeledImages(
            images=map_pixels(folder / IMAGES),
            labels=np.load(folder / LABELS, allow_pickle=False),
            classes=classes,
            splits=np.load(codes, allow_pickle=False) if codes.exists() else None,
        )
    except (OSError, ValueError, EOFError) as error:
        raise NodeCacheError(f"the decoded images in {folder} are damaged ({error})", todo="Remove it.") from error


@contextmanager
def growing_pixels(path: Path, resolution: int) -> Iterator[BinaryIO]:
    """Open a new file of images to append pixels to; its header counts them in the end."""
    with path.open("wb") as file:
        _write_header(file, 0, resolution)
        start = file.tell()
        yield file
        num_images = (file.tell() - start) // _image_bytes(resolution)
        # numpy leaves room in a header for the first side to grow.
        file.seek(0)
        _write_header(file, num_images, resolution)


def append_images(
    file: BinaryIO, archive: zipfile.ZipFile, images: Sequence[ArchivedImage], resolution: int, num_threads: int
) -> None:
    """Decode images of a checked archive and append their pixels, in constant memory.

    Raises:
        InvalidDatasetError: An image can no longer be read.
    """
    size = max(1, CHUNK_BYTES // _image_bytes(resolution))
    for first in range(0, len(images), size):
        chunk = images[first : first + size]
        pixels = np.empty((len(chunk), resolution, resolution, 3), dtype=np.uint8)
        decode_archived(archive, chunk, pixels, num_threads)
        file.write(pixels.data)


def map_pixels(path: Path) -> NDArray[np.uint8]:
    """Return uint8 [N, R, R, 3], mapped copy-on-write: all processes share what none of them changes."""
    pixels: NDArray[np.uint8] = np.load(path, mmap_mode="c", allow_pickle=False)
    return pixels


def images_by_class(
    images: Iterable[ArchivedImage], classes: Iterable[str], *, dataset: str
) -> dict[str, list[ArchivedImage]]:
    """Return the images to learn from of each of `classes`: where the dataset declares splits, those of `train`.

    Raises:
        InvalidDatasetError: A class has fewer images than a support and a query need.
    """
    found = defaultdict(list)
    for image in images:
        if image.placed.split in {None, "train"}:
            found[image.placed.class_name].append(image)
    for name in classes:
        if len(found[name]) < MIN_IMAGES:
            raise InvalidDatasetError(
                f"the class {name} of the dataset {dataset} has too few images to learn from",
                got=len(found[name]),
                expected=f"at least {MIN_IMAGES}",
                todo="Name other classes, or leave the dataset out.",
            )
    return {name: found[name] for name in classes}


def _write_header(file: BinaryIO, num_images: int, resolution: int) -> None:
    shape = (num_images, resolution, resolution, 3)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _image_bytes(resolution: int) -> int:
    return 3 * resolution * resolution
