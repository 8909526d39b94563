"""From the store to the device: the archive is fetched, decoded at one side, and split."""

import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from workers.adapt.data import TaskData, make_part
from workers.contracts.adaptations import AttemptRequest
from workers.contracts.datasets import DatasetReport
from workers.store import layout
from workers.store.protocol import Store
from workers.tasks.images import load_images
from workers.tasks.split import split_dataset

HELD_OUT_SHARE: Final = 0.15
# More held-out images than this sharpen no choice, and every candidate is scored on all of them.
MAX_QUERY: Final = 1000


def read_report(store: Store, attempt: AttemptRequest) -> DatasetReport:
    """Return what the check of the attempt's dataset found."""
    return DatasetReport.model_validate_json(store.get_bytes(layout.dataset_report(attempt.dataset_sha256)))


def stage(
    store: Store, attempt: AttemptRequest, report: DatasetReport, resolution: int, device: torch.device
) -> TaskData:
    """Return the dataset on the device, split into support, query and test.

    Raises:
        StoreError: The archive cannot be fetched.
        InvalidDatasetError: It is not the one that was checked, or a class is too small to be split.
    """
    with tempfile.TemporaryDirectory(prefix="archprior-") as folder:
        path = Path(folder) / "archive.zip"
        store.get_file(attempt.dataset_key, path)
        loaded = load_images(path, resolution, report)
    seed = attempt.request.seed
    share = min(HELD_OUT_SHARE, MAX_QUERY / len(loaded))
    split = split_dataset(loaded.labels, loaded.splits, seed, query_fraction=share, test_fraction=HELD_OUT_SHARE)
    parts = {
        "support": _shuffled(split.train, seed),
        "query": _shuffled(split.query, seed)[:MAX_QUERY],
        "test": split.test,
    }
    made = {name: make_part(loaded.images, loaded.labels, index, device) for name, index in parts.items()}
    return TaskData(**made, classes=report.classes)


def _shuffled(index: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(index)
