"""From the paths of a dataset's files to classes and splits. Pure: knows paths, opens nothing.

Accepted, below any number of common wrapper folders:

    class/image.png
    train|val|test/class/image.png      (`valid` and `validation` are `val`; `train` is required)
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from workers.contracts.datasets import SplitName
from workers.contracts.errors import InvalidDatasetError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
ARCHIVE_SUFFIXES = frozenset({".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".tbz2", ".txz"})
SPLIT_FOLDERS: dict[str, SplitName] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_IGNORED_FOLDERS = frozenset({"__MACOSX"})
_IGNORED_FILES = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True, kw_only=True)
class Placed:
    """An image file and where its path puts it; `split` is None where the dataset declares no splits."""

    path: str
    class_name: str
    split: SplitName | None


def is_ignored(path: str) -> bool:
    """Return whether a file is what operating systems leave in archives."""
    *folders, name = path.split("/")
    hidden = any(part.startswith(".") for part in (*folders, name))
    return hidden or not _IGNORED_FOLDERS.isdisjoint(folders) or name.lower() in _IGNORED_FILES


def is_image(path: str) -> bool:
    """Return whether a file's name says that it is an image; other files are left alone."""
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def place_images(paths: Iterable[str]) -> list[Placed]:
    """Return every image among `paths` with its class and split, in the order of the paths.

    Args:
        paths: Of a dataset's files, relative, `/`-separated. What is ignored, or no image, is left out.

    Raises:
        InvalidDatasetError: There is no image, or images lie where no class folder is; names the first one.
    """
    images = sorted(path for path in paths if not is_ignored(path) and is_image(path))
    if not images:
        raise InvalidDatasetError(
            "the dataset holds no images",
            expected=f"class folders with files that end in {', '.join(sorted(IMAGE_SUFFIXES))}",
            todo="Put the images of each class into a folder that bears the class's name.",
        )
    parts = [path.split("/") for path in images]
    skip = _num_wrappers(parts)
    inner = [names[skip:] for names in parts]
    with_splits = _has_split_folders(images, inner)
    return [_placed(path, names, with_splits=with_splits) for path, names in zip(images, inner, strict=True)]


def _num_wrappers(parts: Sequence[Sequence[str]]) -> int:
    """Count the outer folders that all images share and that are neither a class nor a split."""
    count, shallowest, first = 0, min(map(len, parts)), parts[0]
    while (
        shallowest - count >= 3
        and first[count].lower() not in SPLIT_FOLDERS
        and all(names[count] == first[count] for names in parts)
    ):
        count += 1
    return count


def _has_split_folders(images: Sequence[str], inner: Sequence[Sequence[str]]) -> bool:
    for path, names in zip(images, inner, strict=True):
        if len(names) == 1:
            raise _misplaced(f"the image {path} lies outside of any class folder")
    tops = {names[0] for names in inner}
    named_as_splits = {top for top in tops if top.lower() in SPLIT_FOLDERS}
    # A folder `train` that holds images directly is a class (of vehicles); one that holds folders is a split.
    splits = {names[0] for names in inner if names[0] in named_as_splits and len(names) > 2}
    if not splits:
        if named_as_splits == tops:
            raise _misplaced(f"the image {images[0]} lies in a split folder but in no class folder")
        return False
    for path, names in zip(images, inner, strict=True):
        if names[0] not in named_as_splits:
            raise _misplaced(f"the folder {names[0]} stands beside split folders ({path})")
        if len(names) == 2:
            raise _misplaced(f"the image {path} lies in a split folder but in no class folder")
    if "train" not in {SPLIT_FOLDERS[top.lower()] for top in splits}:
        raise _misplaced(f"there is {_listed(splits)} but no train folder")
    return True


def _placed(path: str, names: Sequence[str], *, with_splits: bool) -> Placed:
    split = SPLIT_FOLDERS[names[0].lower()] if with_splits else None
    _, _, *deeper = names if with_splits else ("", *names)
    if len(deeper) > 1:
        raise _misplaced(f"the image {path} lies deeper than its class folder")
    class_name = names[1] if with_splits else names[0]
    # Archives made on macOS spell an accented letter with two characters; both spellings are one class.
    return Placed(path=path, class_name=unicodedata.normalize("NFC", class_name), split=split)


def _misplaced(what: str) -> InvalidDatasetError:
    return InvalidDatasetError(
        what,
        expected="class/image.png, or train|val|test/class/image.png",
        todo="Move the images so that each lies directly in its class folder.",
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
