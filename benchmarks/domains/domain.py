"""A domain of images to learn from, or to stay unseen: its packed file, its class splits, and its card.

The folder of a domain holds `NAME.npz` (see `workers.tasks.packed`), `domain.json`, and, where it may be learned from,
`split.json` and one `split_without_MARK.json` for each mark.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.contracts.base import Contract, StoredContract
from workers.tasks.class_split import SPLIT_PARTS, ClassSplit, SplitPart
from workers.tasks.images import LabeledImages
from workers.tasks.packed import PackedJpegs, read_packed

CARD: Final = "domain.json"
SPLIT: Final = "split.json"
Arrays = Mapping[str, NDArray[np.generic]]

# Of the classes of a domain that names no parts itself.
TEST_SHARE, VALIDATION_SHARE = 0.3, 0.2


class Source(Contract):
    """Where images come from: a package, its version, and the license of its images."""

    package: str
    version: str
    license: str


class DomainCard(StoredContract):
    """What a domain is (`domain.json`).

    Attributes:
        shows: In words: what the images are, and what makes a class.
        sha256: Hash of the arrays of the packed file, in hexadecimal: their names, types, shapes and bytes.
        side: Of the images, in pixels.
        color: Whether they have colors; else they are gray.
        num_per_class: Images of the smallest and of the largest class.
        total_classes: With those in no part of the split.
        num_classes: By part of the split; empty: the domain stays unseen.
        marks: Classes that name a thing of a dataset that stays unseen, by that dataset.
    """

    name: str
    shows: str
    sources: tuple[Source, ...]
    sha256: str
    num_images: int
    total_classes: int
    side: int
    color: bool
    num_per_class: tuple[int, int]
    num_classes: dict[str, int]
    marks: dict[str, tuple[str, ...]]

    @property
    def terms(self) -> str:
        """The licenses of the images, for the card of a prior."""
        return "; ".join(f"{source.package} {source.version}: {source.license}" for source in self.sources)


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A domain before it is written.

    Attributes:
        name: Of its folder and file.
        shows: In words: what the images are, and what makes a class.
        arrays: Of the packed file.
        sources: Of the images.
        split: Which classes are for what; None: the domain stays unseen.
        marks: Classes that name a thing of a dataset that stays unseen, by that dataset.
    """

    name: str
    shows: str
    arrays: Arrays
    sources: tuple[Source, ...]
    split: ClassSplit | None
    marks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def split_by_hash(name: str, classes: Sequence[str]) -> ClassSplit:
    """Return a split of classes: 30 % meta-test and 20 % meta-validation, by the hash of the domain's name and theirs.

    A class keeps its part whatever other classes come or go, but for those at the borders.
    """
    drawn = sorted(classes, key=lambda item: hashlib.sha256(f"{name}/{item}".encode()).digest())
    num_test = round(TEST_SHARE * len(drawn))
    first = num_test + round(VALIDATION_SHARE * len(drawn))
    test, validation = set(drawn[:num_test]), set(drawn[num_test:first])
    return ClassSplit(
        meta_train=tuple(item for item in classes if item not in test | validation),
        meta_validation=tuple(item for item in classes if item in validation),
        meta_test=tuple(item for item in classes if item in test),
    )


def without(split: ClassSplit, left_out: Sequence[str]) -> ClassSplit:
    """Return the split with some classes in no part to learn from or to judge by; those of meta-test stay there."""
    gone = set(left_out)
    return ClassSplit(
        meta_train=tuple(item for item in split.meta_train if item not in gone),
        meta_validation=tuple(item for item in split.meta_validation if item not in gone),
        meta_test=split.meta_test,
    )


def write(domain: Domain, out: Path) -> DomainCard:
    """Write a domain's folder below `out`, its card last; return the card."""
    folder = out / domain.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)
    path = folder / f"{domain.name}.npz"
    np.savez_compressed(path, allow_pickle=False, **domain.arrays)
    if domain.split is not None:
        _write_split(domain.split, folder / SPLIT)
        for mark, classes in domain.marks.items():
            _write_split(without(domain.split, classes), folder / split_name(mark))
    card = describe(domain, path)
    (folder / CARD).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return card


def split_name(mark: str | None) -> str:
    """Return the name of the file of a domain's split, without the classes of a mark if there is one."""
    return SPLIT if mark is None else f"split_without_{mark}.json"


def describe(domain: Domain, path: Path) -> DomainCard:
    """Return the card of a domain, read from its packed file as every reader gets it."""
    found = read_packed(path)
    counts = np.bincount(found.labels, minlength=len(found.classes))
    side, color = _side_and_color(found, domain.arrays)
    return DomainCard(
        name=domain.name,
        shows=domain.shows,
        sources=domain.sources,
        sha256=hash_of(domain.arrays),
        num_images=len(found.labels),
        total_classes=len(found.classes),
        side=side,
        color=color,
        num_per_class=(int(counts.min()), int(counts.max())),
        num_classes={} if domain.split is None else {part: len(classes) for part, classes in _parts(domain.split)},
        marks=dict(domain.marks),
    )


def hash_of(arrays: Arrays) -> str:
    """Return the SHA-256 of arrays, which does not depend on how a file compresses them."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _side_and_color(found: PackedJpegs | LabeledImages, arrays: Arrays) -> tuple[int, bool]:
    if isinstance(found, PackedJpegs):
        with Image.open(io.BytesIO(found.file(0))) as image:
            return image.width, image.mode == "RGB"
    return found.images.shape[1], all(array.ndim == 4 for name, array in arrays.items() if name.startswith("x"))


def _write_split(split: ClassSplit, path: Path) -> None:
    path.write_text(json.dumps(dict(_parts(split)), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _parts(split: ClassSplit) -> tuple[tuple[SplitPart, tuple[str, ...]], ...]:
    return tuple(zip(SPLIT_PARTS, (split.meta_train, split.meta_validation, split.meta_test), strict=True))
