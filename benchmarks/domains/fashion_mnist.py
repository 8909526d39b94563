"""Fashion-MNIST: pieces of clothing in MNIST's form (Xiao, Rasul and Vollgraf 2017). No prior learns from it."""

import gzip
from pathlib import Path
from typing import Final

from benchmarks.domains.domain import Domain, Source
from benchmarks.domains.idx import read_idx
from benchmarks.domains.mnist import FILES, arrays_of
from benchmarks.domains.packages import Packages

NAME: Final = "fashion_mnist"
PACKAGE: Final = "dataset-fashion-mnist"
FOLDER: Final = Path("usr/share/datasets/fashion-mnist")
CLASSES: Final = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


def build(packages: Packages) -> Domain:
    """Return the domain; the images have a border of 2 black pixels."""
    package = packages.debian(PACKAGE)
    train_images, train_labels, test_images, test_labels = (
        read_idx(gzip.decompress((package.root / FOLDER / f"{name}-ubyte.gz").read_bytes())) for name in FILES
    )
    return Domain(
        name=NAME,
        shows="pieces of clothing; a class is a kind of them",
        arrays=arrays_of(train_images, train_labels, test_images, test_labels, CLASSES),
        sources=(Source(package=PACKAGE, version=package.version, license="MIT"),),
        split=None,
    )
