"""Datasets as people keep them: a folder of class folders, a zip of one, or a packed `.npz` file. Free of torch."""

import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.contracts.datasets import SplitName
from workers.contracts.errors import InvalidDatasetError
from workers.tasks.archive import check_archive, find_images
from workers.tasks.decoding import OversizedImageError, UnreadableImageError, decode_square
from workers.tasks.images import SPLITS, LabeledImages, default_num_threads, load_images, run_shares, split_codes
from workers.tasks.layout import Placed, place_images
from workers.tasks.limits import ArchiveLimits
from workers.tasks.members import open_archive, read_member
from workers.tasks.packed import PackedJpegs, png_bytes, read_packed

_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the same source makes the same bytes, which the store keeps once
_LIMITS = ArchiveLimits()


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One image of a source as a file; `split` is None where none is declared."""

    class_name: str
    split: SplitName | None
    name: str
    data: bytes


def load_source(path: Path, resolution: int | None = None) -> LabeledImages:
    """Return the images of a local dataset, in the order of its paths or of its arrays.

    Args:
        path: A folder, a `.zip` archive or a `.npz` file.
        resolution: Side that images are resized to (see `decode_square`); None keeps their own, which then has to be
            one and the same square for all of them.

    Raises:
        InvalidDatasetError: `path` is none of these, or its images do not make a dataset.
    """
    if path.is_dir():
        placed = _placed_in_folder(path)
        classes = tuple(sorted({image.class_name for image in placed}))
        return LabeledImages(
            images=_decode(
                [image.path for image in placed], lambda i: (path / placed[i].path).read_bytes(), resolution
            ),
            labels=np.array([classes.index(image.class_name) for image in placed], dtype=np.int64),
            classes=classes,
            splits=split_codes(placed),
        )
    if _is_zip(path):
        report = check_archive(path, _LIMITS).report
        if resolution is None and report.min_size != report.max_size:
            raise _several_sizes(f"the images of {path.name}", f"{report.min_size} to {report.max_size} pixels")
        return load_images(path, resolution or report.min_size, report)
    packed = read_packed(path)
    if isinstance(packed, PackedJpegs):
        names = [f"number {position}" for position in range(len(packed.labels))]
        pixels = _decode(names, packed.file, resolution)
        return LabeledImages(images=pixels, labels=packed.labels, classes=packed.classes, splits=packed.splits)
    return _resized(path, packed, resolution)


def write_zip(source: Path, out: Path, *, splits: bool = True, wanted: Callable[[int], bool] = lambda _: True) -> None:
    """Write a local dataset as a zip archive of class folders, without compressing it again.

    Files of a folder or archive, and JPEG files of a packed dataset, are copied as they are; arrays become PNG files.
    Symbolic links are not followed. A slash in the name of a packed class becomes a hyphen.

    Args:
        source: A folder, a `.zip` archive or a `.npz` file.
        out: The archive to write.
        splits: Keep train / val / test folders where the source declares them; else all images of a class go together.
        wanted: Whether the image at a position of `iterate_files` is written.

    Raises:
        InvalidDatasetError: `source` is none of these.
    """
    seen: set[str] = set()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for position, file in enumerate(iterate_files(source)):
            if not wanted(position):
                continue
            folder = f"{file.split}/{file.class_name}" if splits and file.split else file.class_name
            # Files of one name meet where folders are put together: splits, or two spellings of one class.
            name = file.name
            while f"{folder}/{name}" in seen:
                name = f"{position:06d}-{name}"
            seen.add(f"{folder}/{name}")
            archive.writestr(zipfile.ZipInfo(f"{folder}/{name}", _TIMESTAMP), file.data)


def iterate_files(source: Path) -> Iterator[SourceFile]:
    """Yield the images of a local dataset as files; for `source` and errors see `write_zip`."""
    if source.is_dir():
        for image in _placed_in_folder(source):
            yield _source_file(image, (source / image.path).read_bytes())
    elif _is_zip(source):
        with open_archive(source, _LIMITS) as archive:
            for found in find_images(archive, _LIMITS):
                yield _source_file(found.placed, read_member(archive, found.member))
    else:
        yield from _packed_files(source)


def _packed_files(path: Path) -> Iterator[SourceFile]:
    packed = read_packed(path)
    folders = [name.replace("/", "-").replace("\\", "-") for name in packed.classes]
    if len(set(folders)) != len(folders):
        todo = "Rename the classes in the file."
        raise InvalidDatasetError(f"two classes of {path.name} would share a folder", got=", ".join(folders), todo=todo)
    for position, label in enumerate(packed.labels.tolist()):
        is_jpeg = isinstance(packed, PackedJpegs)
        yield SourceFile(
            class_name=folders[label],
            split=None if packed.splits is None else SPLITS[packed.splits[position]],
            name=f"{position:06d}.{'jpg' if is_jpeg else 'png'}",
            data=packed.file(position) if isinstance(packed, PackedJpegs) else png_bytes(packed.images[position]),
        )


def _source_file(image: Placed, data: bytes) -> SourceFile:
    name = image.path.rpartition("/")[2]
    return SourceFile(class_name=image.class_name, split=image.split, name=name, data=data)


def _is_zip(path: Path) -> bool:
    """Return whether a file is a zip archive rather than a packed one; refuse what is neither."""
    if not path.is_file() or path.suffix.lower() not in {".zip", ".npz"}:
        raise InvalidDatasetError(
            "no dataset there",
            got=str(path),
            expected="a folder of class folders, a .zip of one, or a packed .npz file",
            todo="Check the path.",
        )
    return path.suffix.lower() == ".zip"


def _placed_in_folder(folder: Path) -> list[Placed]:
    paths = []
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        folders[:] = [name for name in folders if not (here / name).is_symlink()]
        files = [here / name for name in names]
        paths += [file.relative_to(folder).as_posix() for file in files if file.is_file() and not file.is_symlink()]
    return place_images(paths)


def _decode(names: Sequence[str], read: Callable[[int], bytes], resolution: int | None) -> NDArray[np.uint8]:
    """Return uint8 [N, R, R, 3]."""

    def image_at(position: int) -> Image.Image:
        try:
            return decode_square(read(position), resolution, max_pixels=_LIMITS.max_pixels)
        except (UnreadableImageError, OversizedImageError) as error:
            what = f"the image {names[position]} cannot be read"
            raise InvalidDatasetError(what, got=error.what, todo="Save it again, or leave it out.") from error

    first = image_at(0).size
    if first[0] != first[1]:
        raise _several_sizes(f"the image {names[0]}", first)
    pixels = np.empty((len(names), first[1], first[0], 3), dtype=np.uint8)

    def fill(share: range) -> None:
        for position in share:
            image = image_at(position)
            if image.size != first:
                raise _several_sizes(f"the image {names[position]}", image.size)
            pixels[position] = np.asarray(image)

    run_shares(fill, len(names), default_num_threads())
    return pixels


def _resized(path: Path, labeled: LabeledImages, resolution: int | None) -> LabeledImages:
    height, width = labeled.images.shape[1:3]
    if resolution is None and height != width:
        raise _several_sizes(f"the images of {path.name}", (width, height))
    if resolution is None or (height, width) == (resolution, resolution):
        return labeled
    square = (resolution, resolution)
    pixels = [Image.fromarray(image).resize(square, Image.Resampling.BILINEAR) for image in labeled.images]
    images = np.stack([np.asarray(image) for image in pixels])
    return LabeledImages(images=images, labels=labeled.labels, classes=labeled.classes, splits=labeled.splits)


def _several_sizes(what: str, got: object) -> InvalidDatasetError:
    return InvalidDatasetError(
        f"{what} cannot keep their size", got=got, expected="one square size", todo="Give a resolution."
    )
