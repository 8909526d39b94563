"""The files of a folder in the order of their keys, with one folder of each depth in memory at a time."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def files_in_order(root: Path, *, prefix: str = "", after: str = "", left_out: str = "") -> Iterator[tuple[str, Path]]:
    """Yield the files whose keys begin with `prefix` and come behind `after`, by their keys.

    The order is that of S3, by the characters of the whole key. A folder takes part in it by its name with a slash,
    with which all keys below it begin: `a-b` comes before `a/b`, and that before `a0`. A folder is read once its turn
    has come; one that is gone by then, or was removed meanwhile, has no files.

    Args:
        root: What keys are relative to.
        prefix: Whatever does not begin with it is not looked at.
        after: A key, or the beginning of one.
        left_out: Name of a folder in `root` that holds no objects; empty: none.

    Raises:
        OSError: A folder cannot be read.
    """
    above = prefix.rpartition("/")[0]
    return _below(root / above, f"{above}/" if above else "", prefix, after, f"{left_out}/")


def _below(folder: Path, at: str, prefix: str, after: str, left_out: str) -> Iterator[tuple[str, Path]]:
    for name in _names(folder):
        key = at + name
        if not name.endswith("/"):
            if key.startswith(prefix) and key > after:
                yield key, folder / name
        elif key != left_out and _may_hold(key, prefix, after):
            yield from _below(folder / name, key, prefix, after, left_out)


def _names(folder: Path) -> list[str]:
    """Return what a folder holds, in order; names of folders end in a slash. Links to folders are none of its."""
    names = []
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                names.append(f"{entry.name}/")
            elif entry.is_file():
                names.append(entry.name)
    return sorted(names)


def _may_hold(folder: str, prefix: str, after: str) -> bool:
    """Return whether a key that begins with `folder` may begin with `prefix` and come behind `after`."""
    fits = folder.startswith(prefix) or prefix.startswith(folder)
    return fits and (folder > after or after.startswith(folder))
