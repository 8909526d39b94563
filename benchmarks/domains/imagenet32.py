"""200 classes of ImageNet at 32 x 32 pixels, from a packed file that no registry has; see `benchmarks.adapt.DATA`."""

import os
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.domains.domain import Domain, Source
from benchmarks.domains.marks import CIFAR10, FASHION_MNIST
from benchmarks.domains.packages import Packages, UnavailableSourceError
from workers.tasks.class_split import ClassSplit

NAME: Final = "imagenet32"
ROOT: Final = Path(__file__).parents[2]
FILE: Final = "imagenet32_200c.npz"
# No prior meets these.
META_TEST: Final = (
    *("guacamole", "mashed potato", "meat loaf", "pizza", "potpie", "espresso", "plate", "orange", "lemon", "banana"),
    *("pomegranate", "orangutan", "chimpanzee", "baboon", "alp", "cliff", "lakeside", "seashore", "coral reef"),
    *("brain coral", "rocking chair", "desk", "dining table"),
)
# Of each kind of thing some: what judges while a prior learns is to be as mixed as what it learns from.
META_VALIDATION: Final = (
    *("boa constrictor", "black widow", "koala", "snail", "brown bear", "bee", "monarch", "ox", "African elephant"),
    *("abacus", "barn", "basketball", "beer bottle", "bullet train", "candle", "chain", "dam", "iPod", "oboe"),
    *("parking meter", "sombrero", "teapot", "viaduct", "ice cream", "mushroom"),
)
# Classes that name what another dataset shows.
NAMESAKES: Final = {
    CIFAR10: (
        *("tabby", "Persian cat", "Egyptian cat", "Chihuahua", "Yorkshire terrier", "golden retriever"),
        *("Labrador retriever", "German shepherd", "standard poodle", "bullfrog", "tailed frog", "goose"),
        *("black stork", "king penguin", "albatross", "beach wagon", "convertible", "limousine", "sports car"),
        *("moving van", "police van", "school bus", "trolleybus", "lifeboat", "gondola", "gazelle"),
    ),
    FASHION_MNIST: ("backpack", "cardigan", "fur coat", "miniskirt", "poncho", "sandal"),
}


def build(packages: Packages) -> Domain:  # noqa: ARG001 - every domain is built alike
    """Return the domain: the file as it is, with its split."""
    folder = Path(os.environ.get("ARCHPRIOR_SHARED_DATA", ROOT.parent / "shared" / "data"))
    return from_file(folder / FILE)


def from_file(path: Path) -> Domain:
    """Return the domain of a packed file.

    Raises:
        UnavailableSourceError: There is none.
    """
    if not path.exists():
        todo = "Set ARCHPRIOR_SHARED_DATA to the folder that has it."
        raise UnavailableSourceError(f"there is no {path}", todo=todo)
    with np.load(path, allow_pickle=False) as packed:
        arrays = {name: packed[name] for name in packed.files}
    kept_apart = {*META_TEST, *META_VALIDATION}
    names = [str(name) for name in arrays["names"]]
    return Domain(
        name=NAME,
        shows="photographs; a class is a synset of WordNet",
        arrays=arrays,
        sources=(Source(package=FILE, version="JPEG copies", license="ImageNet: non-commercial research"),),
        split=ClassSplit(
            meta_train=tuple(name for name in names if name not in kept_apart),
            meta_validation=META_VALIDATION,
            meta_test=META_TEST,
        ),
        marks=NAMESAKES,
    )
