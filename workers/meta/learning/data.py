"""The datasets of a meta-training: read, split into classes to learn from and classes to judge by, and named."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.contracts.errors import InvalidDatasetError
from workers.contracts.priors import LearnedFrom
from workers.tasks.class_split import ClassSplit
from workers.tasks.distribution import ClassImages
from workers.tasks.sources import load_source


@dataclass(frozen=True, kw_only=True)
class MetaData:
    """Classes to learn from, classes to judge by (None: nothing is held out), and what the card says of them."""

    meta_train: ClassImages
    meta_validation: ClassImages | None
    learned_from: tuple[LearnedFrom, ...]


def load_meta_data(paths: Sequence[Path], split: ClassSplit | None, resolution: int, terms: str) -> MetaData:
    """Read datasets for meta-training; of one that declares splits, only its training images.

    Args:
        paths: Folders of class folders, zips, or packed npz files.
        split: Which classes to use for what; None: all of them to learn from.
        resolution: Side that images are kept at, the largest of the run.
        terms: Under which the images stand, for the card.

    Raises:
        InvalidDatasetError: A dataset cannot be read, or lacks a class of the split.
    """
    if not paths:
        raise InvalidDatasetError("no dataset to learn from", todo="Name at least one with --data.")
    parts = []
    for path in paths:
        labeled = load_source(path, resolution)
        parts.append(ClassImages.from_labeled(labeled, split=None if labeled.splits is None else "train"))
    joined = ClassImages.join(parts)
    split = split or ClassSplit(meta_train=joined.class_names)
    learned = set(split.meta_train)
    return MetaData(
        meta_train=joined.subset(split.meta_train),
        meta_validation=joined.subset(split.meta_validation) if split.meta_validation else None,
        learned_from=tuple(
            LearnedFrom(
                name=path.name,
                sha256=_hash(path),
                terms=terms,
                classes=tuple(name for name in part.class_names if name in learned),
            )
            for path, part in zip(paths, parts, strict=True)
        ),
    )


def _hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's paths and bytes in order."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    for file in files:
        if file != path:
            digest.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
