"""The datasets of a meta-training: read, split into classes to learn from and classes to judge by, and named."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
import PIL
import torch

from workers.contracts.base import StoredContract
from workers.contracts.datasets import DatasetReport
from workers.contracts.errors import InvalidDatasetError
from workers.contracts.meta_runs import MetaDataset
from workers.contracts.priors import LearnedFrom
from workers.store.protocol import Store
from workers.tasks.class_split import MIN_CLASSES, ClassSplit
from workers.tasks.decoded import append_images, growing_pixels, images_by_class, map_pixels
from workers.tasks.distribution import ClassImages
from workers.tasks.images import checked_archive, num_decoders
from workers.tasks.node_cache import NodeCache
from workers.tasks.sources import load_source

Part = Literal["meta_train", "meta_validation"]
PARTS: Final[tuple[Part, ...]] = ("meta_train", "meta_validation")
COUNTS: Final = "counts.json"
# Of the files in the cache; goes up whenever the same datasets would give other bytes.
FORMAT: Final = 1


@dataclass(frozen=True, kw_only=True)
class MetaData:
    """The images of a run, and what the prior's card says of them.

    Attributes:
        meta_train: Classes to learn from; None for a comparison, which learns nothing.
        meta_validation: Classes to judge by; None: nothing is held out.
        learned_from: The datasets of `meta_train`.
        dataset_weights: How often tasks come from each dataset of `meta_train`, for `TaskDistribution`; None: by its
            number of classes.
    """

    meta_train: ClassImages | None
    meta_validation: ClassImages | None
    learned_from: tuple[LearnedFrom, ...]
    dataset_weights: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class LocalDataset:
    """A dataset of this machine, and what a run takes of it.

    Attributes:
        path: A folder of class folders, a zip, or a packed npz file.
        split: Which of its classes are for what; None: all of them to learn from.
        weight: How often tasks come from it, relative to the other datasets; None: its number of classes.
        terms: Under which the images stand, for the card.
    """

    path: Path
    split: ClassSplit | None = None
    weight: float | None = None
    terms: str = ""


@dataclass(frozen=True, kw_only=True)
class LocalMetaData(MetaData):
    """What local files hold: always something to learn from."""

    meta_train: ClassImages


class _Counts(StoredContract):
    """Images of each class by part, in the order of datasets and of their classes (`counts.json` of the cache)."""

    meta_train: tuple[int, ...]
    meta_validation: tuple[int, ...]


def load_meta_data(datasets: Sequence[LocalDataset], resolution: int) -> LocalMetaData:
    """Read datasets for meta-training; of one that declares splits, only its training images.

    With several datasets a class is named `<dataset>/<class>`, as in `fetch_meta_data`.

    Args:
        datasets: In the order of their labels.
        resolution: Side that images are kept at, the largest of the run.

    Raises:
        InvalidDatasetError: A dataset cannot be read, or lacks a class of its split.
    """
    if not datasets:
        raise InvalidDatasetError("no dataset to learn from", todo="Name at least one with --data.")
    parts: dict[Part, list[ClassImages]] = {part: [] for part in PARTS}
    learned_from = []
    prefixes = _local_prefixes(datasets)
    for dataset, prefix in zip(datasets, prefixes, strict=True):
        labeled = load_source(dataset.path, resolution)
        found = ClassImages.from_labeled(labeled, split=None if labeled.splits is None else "train")
        split = dataset.split or ClassSplit(meta_train=found.class_names)
        wanted: dict[Part, tuple[str, ...]] = {
            "meta_train": split.meta_train,
            "meta_validation": split.meta_validation,
        }
        for part, names in wanted.items():
            if names:
                chosen = found.subset(names)
                parts[part].append(replace(chosen, class_names=tuple(prefix + name for name in names)))
        name, sha256 = dataset.path.name, _hash(dataset.path)
        learned_from.append(LearnedFrom(name=name, sha256=sha256, terms=dataset.terms, classes=split.meta_train))
    return LocalMetaData(
        meta_train=ClassImages.join(parts["meta_train"]),
        meta_validation=ClassImages.join(parts["meta_validation"]) if parts["meta_validation"] else None,
        learned_from=tuple(learned_from),
        dataset_weights=_weights(
            [(dataset.weight, len(item.classes)) for dataset, item in zip(datasets, learned_from, strict=True)]
        ),
    )


def fetch_meta_data(store: Store, datasets: Sequence[MetaDataset], resolution: int, cache: NodeCache) -> MetaData:
    """Return the images of a run, decoded once on this node and mapped by every process that asks.

    Only meta_train and meta_validation classes are decoded; of datasets that declare splits, only training images. With
    several datasets a class is named `<dataset>/<class>`, by the dataset's id where names of datasets collide.

    Args:
        store: Holds the archives and the findings of their checks.
        datasets: Of the run, in its order.
        resolution: Side that images are kept at, the largest of the run.
        cache: Of this node; the images stay there while it is not closed.

    Raises:
        InvalidDatasetError: An archive is not the one that was recorded, or classes or images are too few.
        StoreError: An archive cannot be fetched, or the cache's disk fails.
    """
    for dataset in datasets:
        _check_parts(dataset)
    reports = [store.get_bytes(dataset.report_key) for dataset in datasets]
    key = _cache_key(datasets, reports, resolution)
    folder = cache.folder(key, partial(_decode, store, datasets, reports, resolution))
    counts = _Counts.model_validate_json((folder / COUNTS).read_bytes())
    learned = [dataset for dataset in datasets if dataset.meta_train]
    return MetaData(
        meta_train=_map_part(folder, "meta_train", datasets, counts.meta_train),
        meta_validation=_map_part(folder, "meta_validation", datasets, counts.meta_validation),
        learned_from=tuple(
            LearnedFrom(name=item.name, sha256=item.sha256, terms=item.terms, classes=item.meta_train)
            for item in learned
        ),
        dataset_weights=_weights([(item.weight, len(item.meta_train)) for item in learned]),
    )


def learned_class_names(datasets: Sequence[MetaDataset]) -> tuple[str, ...]:
    """Return the names of the classes that a run learns from, by label, as `fetch_meta_data` gives them."""
    return tuple(name for name, _ in _named(datasets, "meta_train"))


def _check_parts(dataset: MetaDataset) -> None:
    sizes = {part: len(_classes(dataset, part)) for part in PARTS}
    if not any(sizes.values()):
        todo = "Leave the dataset out."
        raise InvalidDatasetError(f"no class of the dataset {dataset.name} is to be used", todo=todo)
    for part, size in sizes.items():
        if 0 < size < MIN_CLASSES:
            raise InvalidDatasetError(
                f"the dataset {dataset.name} has too few classes for {part}",
                got=", ".join(_classes(dataset, part)),
                expected=f"at least {MIN_CLASSES}",
                todo="Name other classes, or leave the dataset out.",
            )


def _cache_key(datasets: Sequence[MetaDataset], reports: Sequence[bytes], resolution: int) -> str:
    """Return the hash of everything that decides the pixels: the report does too, by what it skips."""
    content = [
        (dataset.sha256, hashlib.sha256(report).hexdigest(), [_classes(dataset, part) for part in PARTS])
        for dataset, report in zip(datasets, reports, strict=True)
    ]
    document = json.dumps([FORMAT, PIL.__version__, resolution, content])
    return f"images-{hashlib.sha256(document.encode()).hexdigest()}"


def _decode(
    store: Store, datasets: Sequence[MetaDataset], reports: Sequence[bytes], resolution: int, folder: Path
) -> None:
    """Fill a folder of the cache: the pixels of each part that has any, and the counts."""
    counts: dict[Part, list[int]] = {part: [] for part in PARTS}
    path = folder / "archive.zip"
    with ExitStack() as stack:
        files = {
            part: stack.enter_context(growing_pixels(folder / f"{part}.npy", resolution))
            for part in PARTS
            if any(_classes(dataset, part) for dataset in datasets)
        }
        for dataset, findings in zip(datasets, reports, strict=True):
            report = DatasetReport.from_stored(findings, dataset.report_key)
            _fetch_archive(store, dataset, path)
            with checked_archive(path, report) as (archive, images):
                for part, file in files.items():
                    for members in images_by_class(images, _classes(dataset, part), dataset=dataset.name).values():
                        append_images(file, archive, members, resolution, num_decoders(report))
                        counts[part].append(len(members))
            path.unlink()
    (folder / COUNTS).write_text(_Counts.model_validate(counts).model_dump_json())


def _fetch_archive(store: Store, dataset: MetaDataset, path: Path) -> None:
    store.get_file(dataset.archive_key, path)
    got = _hash(path)
    if got != dataset.sha256:
        raise InvalidDatasetError(
            f"the archive of the dataset {dataset.name} is not the one that was recorded",
            got=got,
            expected=dataset.sha256,
            todo="Upload the dataset again.",
        )


def _map_part(folder: Path, part: Part, datasets: Sequence[MetaDataset], counts: Sequence[int]) -> ClassImages | None:
    """Return a part's classes over mapped images, or None where it has none."""
    if not counts:
        return None
    names = _named(datasets, part)
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return ClassImages(
        images=torch.from_numpy(map_pixels(folder / f"{part}.npy")),
        labels=torch.from_numpy(labels),
        class_names=tuple(name for name, _ in names),
        dataset_ids=tuple(number for _, number in names),
    )


def _named(datasets: Sequence[MetaDataset], part: Part) -> list[tuple[str, int]]:
    """Return name and number of dataset of each class of a part, by label."""
    members = [dataset for dataset in datasets if _classes(dataset, part)]
    prefixes = _prefixes(datasets)
    return [
        (prefixes[dataset.dataset_id] + name, number)
        for number, dataset in enumerate(members)
        for name in _classes(dataset, part)
    ]


def _prefixes(datasets: Sequence[MetaDataset]) -> dict[str, str]:
    """Return what each dataset's classes begin with, by its id."""
    if len(datasets) == 1:
        return {datasets[0].dataset_id: ""}
    taken = [dataset.name for dataset in datasets] + [dataset.dataset_id for dataset in datasets]
    return {item.dataset_id: f"{item.name if taken.count(item.name) == 1 else item.dataset_id}/" for item in datasets}


def _classes(dataset: MetaDataset, part: Part) -> tuple[str, ...]:
    return dataset.meta_train if part == "meta_train" else dataset.meta_validation


def _local_prefixes(datasets: Sequence[LocalDataset]) -> list[str]:
    """Return what each dataset's classes begin with: its file's name; where two have the same, all are numbered."""
    if len(datasets) == 1:
        return [""]
    names = [dataset.path.stem for dataset in datasets]
    if len(set(names)) == len(names):
        return [f"{name}/" for name in names]
    return [f"{number}-{name}/" for number, name in enumerate(names, start=1)]


def _weights(learned: Sequence[tuple[float | None, int]]) -> tuple[float, ...] | None:
    """Return how often each dataset is drawn from, of its weight, if it has one, and its number of classes."""
    if all(weight is None for weight, _ in learned):
        return None
    return tuple(float(num_classes) if weight is None else weight for weight, num_classes in learned)


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
