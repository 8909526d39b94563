"""The images that arms choose by, decoded once into memory-mapped arrays: training images only."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from benchmarks.nas_bench_201.cells import MACRO
from search_spaces.errors import InvalidOptionError
from workers.adapt.data import TaskData, make_part
from workers.tasks.images import SPLITS
from workers.tasks.sources import load_source
from workers.tasks.split_sizes import query_fraction

TRAIN: Final = SPLITS.index("train")
CLASSES: Final = "classes.json"


def write_task(source: Path, folder: Path, classes: Sequence[str] = ()) -> Path:
    """Return a folder, in `folder`, with the decoded training images of a dataset; decodes what is not there yet.

    Args:
        source: A packed dataset.
        folder: Of all decoded ones.
        classes: Names of those wanted; none: all.

    Raises:
        InvalidOptionError: The dataset is not there, or has no such class.
        InvalidDatasetError: It cannot be read.
    """
    if not source.is_file():
        todo = "Set ARCHPRIOR_SHARED_DATA to the folder that has it, or make it by `make domains`."
        raise InvalidOptionError("no images to choose by there", got=str(source), expected="a packed .npz", todo=todo)
    digest = hashlib.sha256(source.read_bytes() + json.dumps(list(classes)).encode()).hexdigest()
    place = folder / f"{source.stem}-{digest[:12]}"
    if (place / CLASSES).exists():
        return place
    labeled = load_source(source, MACRO.image_size)
    if missing := set(classes) - set(labeled.classes):
        raise InvalidOptionError(f"classes that {source.name} lacks", got=", ".join(sorted(missing)))
    wanted = list(classes) or list(labeled.classes)
    numbers = np.array([wanted.index(name) if name in wanted else -1 for name in labeled.classes])
    labels = numbers[labeled.labels]
    kept = labels >= 0
    if labeled.splits is not None:
        kept &= labeled.splits == TRAIN
    place.mkdir(parents=True, exist_ok=True)
    np.save(place / "images.npy", labeled.images[kept])
    np.save(place / "labels.npy", labels[kept])
    (place / CLASSES).write_text(json.dumps(wanted))
    return place


def load_task(place: Path, seed: int) -> TaskData:
    """Return the images of a folder, drawn anew for each seed into those to learn from and those to choose by.

    There are no test images: nobody reports an accuracy here.
    """
    images = np.load(place / "images.npy", mmap_mode="r")
    labels = np.load(place / "labels.npy")
    order = np.random.default_rng(seed).permutation(len(labels))
    num_query = max(1, round(query_fraction(len(labels)) * len(labels)))
    query, support, none = order[:num_query], order[num_query:], order[:0]
    parts = [make_part(images, labels, index, torch.device("cpu")) for index in (support, query, none)]
    classes = tuple(json.loads((place / CLASSES).read_text()))
    return TaskData(support=parts[0], query=parts[1], test=parts[2], classes=classes)
