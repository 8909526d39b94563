"""Images of chosen classes, decoded once into a file that processes map into memory. Free of torch.

A file is a plain `.npy` of uint8 [N, R, R, 3]: class after class, each class's images in the order of their paths.
"""

import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from workers.contracts.errors import InvalidDatasetError
from workers.tasks.archive import ArchivedImage
from workers.tasks.class_split import MIN_IMAGES
from workers.tasks.images import decode_archived

CHUNK_BYTES: Final = 32 << 20


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
