"""Tables that are made up, and a few images."""

import csv
import gzip
import io
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path

import numpy as np
import pytest

COLUMN = "e12_cifar10-val"
OTHERS = ("e12_cifar100-val", "e12_imagenet-val")


def write_table(path: Path, rows: Mapping[str, Iterable[object]], columns: Iterable[str] = (COLUMN,)) -> Path:
    """Write a table of accuracies by a cell's six digits."""
    lines = io.StringIO(newline="")
    writer = csv.writer(lines)
    writer.writerow(["index", "ops", *columns])
    writer.writerows([index, digits, *values] for index, (digits, values) in enumerate(rows.items()))
    data = lines.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture
def whole_table(tmp_path: Path) -> Path:
    """All 15,625 cells: each 3x3 convolution is worth 10 points, elsewhere each 1x1 convolution."""
    rows = {
        digits: (10 * digits.count("3") + 1, 10 * digits.count("2"), 10 * digits.count("4"))
        for digits in map("".join, product("01234", repeat=6))
    }
    return write_table(tmp_path / "table.csv.gz", rows, (COLUMN, *OTHERS))


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """120 images of three colors under noise, and 30 to test on that are black."""
    generator = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = generator.integers(0, 120, (120, 32, 32, 3), dtype=np.uint8)
    images[np.arange(120), :, :, labels] += 120
    path = tmp_path / "colors.npz"
    np.savez(
        path,
        x_train=images,
        y_train=labels,
        x_test=np.zeros((30, 32, 32, 3), np.uint8),
        y_test=np.arange(30) % 3,
        classes=np.array(["red", "green", "blue"]),
    )
    return path
