"""From the store to the device: the archive is fetched, decoded at one side, and split.

What was decoded stays in the node's cache, so that the next adaptation to the same images neither fetches nor decodes.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from workers.adapt.data import TaskData, make_part
from workers.contracts.adaptations import AttemptRequest
from workers.contracts.datasets import DatasetReport
from workers.contracts.errors import InvalidDatasetError, NodeCacheError
from workers.store import layout
from workers.store.protocol import Store
from workers.tasks.decoded import map_labeled, write_labeled
from workers.tasks.images import LabeledImages, load_images
from workers.tasks.node_cache import open_node_cache
from workers.tasks.split import split_dataset, without_repeats
from workers.tasks.split_sizes import HELD_OUT_SHARE, MAX_QUERY, query_fraction

# Of the files in the cache; goes up whenever the same dataset would give other bytes.
FORMAT: Final = 1
# Share of the budget that is waited for another process that decodes the same images; then they are decoded here too.
CACHE_PATIENCE: Final = 0.5

log = logging.getLogger("archprior.adapt")


def read_report(store: Store, attempt: AttemptRequest) -> DatasetReport:
    """Return what the check of the attempt's dataset found."""
    key = layout.dataset_report(attempt.dataset_sha256)
    return DatasetReport.from_stored(store.get_bytes(key), key)


def stage(
    store: Store, attempt: AttemptRequest, report: DatasetReport, resolution: int, device: torch.device
) -> TaskData:
    """Return the dataset on the device, split into support, query and test.

    Raises:
        StoreError: The archive cannot be fetched.
        InvalidDatasetError: It is not the one that was checked, or a class is too small to be split.
    """
    with _decoded(store, attempt, report, resolution) as loaded:
        return divide(loaded, attempt.request.seed, device)


def divide(loaded: LabeledImages, seed: int, device: torch.device) -> TaskData:
    """Return a dataset's images on a device, split into support, query and test.

    Args:
        loaded: All images, of one side.
        seed: Of the cuts and of the order.
        device: To compute on.

    Raises:
        InvalidDatasetError: A class is too small to be split.
    """
    share = query_fraction(len(loaded))
    split = split_dataset(loaded.labels, loaded.splits, seed, query_fraction=share, test_fraction=HELD_OUT_SHARE)
    is_declared = loaded.splits is not None and bool(loaded.splits.any())
    split, repeats = without_repeats(split, loaded.images, keep_test=is_declared)
    parts = {
        "support": _shuffled(split.train, seed),
        "query": _shuffled(split.query, seed)[:MAX_QUERY],
        "test": split.test,
    }
    made = {name: make_part(loaded.images, loaded.labels, index, device) for name, index in parts.items()}
    return TaskData(**made, classes=loaded.classes, repeats=repeats)


@contextmanager
def _decoded(store: Store, attempt: AttemptRequest, report: DatasetReport, resolution: int) -> Iterator[LabeledImages]:
    """Yield the images, mapped from this node's cache, or decoded into memory where the cache fails."""
    with ExitStack() as stack:
        try:
            cache = open_node_cache(patience_s=CACHE_PATIENCE * attempt.request.budget_s)
            stack.callback(cache.close)
            key = _cache_key(attempt, report, resolution)
            loaded = map_labeled(cache.folder(key, partial(_fill, store, attempt, report, resolution)), report.classes)
        except NodeCacheError as error:
            log.warning("the dataset is decoded into memory: %s", error)
            with _fetched(store, attempt) as path:
                loaded = load_images(path, resolution, report)
        yield loaded


def _cache_key(attempt: AttemptRequest, report: DatasetReport, resolution: int) -> str:
    """Return the hash of everything that decides the images: the report does too, by what it skips."""
    parts = [FORMAT, PIL.__version__, resolution, attempt.dataset_sha256, report.model_dump(mode="json")]
    return f"dataset-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


def _fill(store: Store, attempt: AttemptRequest, report: DatasetReport, resolution: int, folder: Path) -> None:
    with _fetched(store, attempt) as path:
        write_labeled(path, resolution, report, folder)


@contextmanager
def _fetched(store: Store, attempt: AttemptRequest) -> Iterator[Path]:
    """Yield the path of the archive; it is gone when the context ends."""
    with tempfile.TemporaryDirectory(prefix="archprior-") as folder:
        path = Path(folder) / "archive.zip"
        store.get_file(attempt.dataset_key, path)
        with path.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        if got != attempt.dataset_sha256:
            raise InvalidDatasetError(
                "the dataset's archive is not the one that was checked",
                got=got,
                expected=attempt.dataset_sha256,
                todo="Upload the dataset again.",
            )
        yield path


def _shuffled(index: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(index)
