"""Write the datasets of the suites as zips of class folders: what no prior of the domains has learned from.

| name | classes | images |
|---|---|---|
| cifar10 | 10 | 10,000 of 60,000, JPEG copies; train and test folders |
| fashion_mnist | 10 | 10,000 of 70,000; train and test folders |
| imagenet32 | 20 of the meta-test classes, the first by hash | 9,000 of 11,000, JPEG copies |
| digits | 10 | 1,797 of scikit-learn, 8 x 8 pixels |
| emoji | the 17 subcategories of meta-test | all |
| tamil | 37 letters of a script of meta-test, a class each, in 108 fonts | 3,996 |

At most as many images as a run of half a minute can make use of; of every class the same share. Needs what `make
domains` wrote, and CIFAR-10 of ARCHPRIOR_SHARED_DATA. The same sources make the same bytes.

usage: python -m benchmarks.suites.data OUT_DIR [--domains DIR] [--only NAME ...]
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.domains import scripts
from benchmarks.domains.packages import FetchedPackages, Packages
from benchmarks.machine import ROOT
from search_spaces.errors import ArchPriorError, InvalidOptionError
from workers.bench.thinning import thinned
from workers.tasks.class_split import ClassSplit
from workers.tasks.sources import SourceFile, iterate_files, write_zip

DOMAINS: Final = ROOT / "build" / "domains"
SHARED: Final = Path(os.environ.get("ARCHPRIOR_SHARED_DATA", ROOT.parent / "shared" / "data"))
NUM_IMAGENET_CLASSES: Final = 20
# Of the scripts of meta-test, one of those with the most fonts: sans and serif, upright and slanted, in all weights.
SCRIPT: Final = "Tamil"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the datasets are made from.

    Attributes:
        domains: Folder of `make domains`.
        shared: Folder with the packed CIFAR-10.
        packages: With the fonts.
    """

    domains: Path
    shared: Path
    packages: Packages


def main() -> int:
    """Write what is asked for; return 1 if something is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--domains", type=Path, default=DOMAINS, metavar="DIR")
    parser.add_argument("--only", action="append", choices=DATASETS, metavar="NAME", help=", ".join(DATASETS))
    options = parser.parse_args()
    sources = Sources(domains=options.domains, shared=SHARED, packages=FetchedPackages(options.domains / "packages"))
    missing = 0
    for name in options.only or DATASETS:
        try:
            num_images = write(name, sources, options.out)
        except (ArchPriorError, FileNotFoundError) as error:
            missing = 1
            print(f"{name} is not written: {error}", file=sys.stderr)
        else:
            print(f"{options.out / name}.zip: {num_images:,} images")
    return missing


def write(name: str, sources: Sources, out: Path) -> int:
    """Write a dataset whole, or not at all; return its number of images."""
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f"{name}.partial"
    num_images = DATASETS[name](sources, partial)
    partial.replace(out / f"{name}.zip")
    return num_images


def cifar10(sources: Sources, out: Path) -> int:
    """Write CIFAR-10 with the split that its two files are."""
    with tempfile.TemporaryDirectory(prefix="archprior-") as scratch:
        for part in ("train", "test"):
            copy_into(Path(scratch) / part, iterate_files(sources.shared / f"cifar10_{part}.npz"))
        return write_thinned(Path(scratch), out, max_images=10_000)


def fashion_mnist(sources: Sources, out: Path) -> int:
    """Write Fashion-MNIST with its split."""
    return write_thinned(packed(sources, "fashion_mnist"), out, max_images=10_000)


def imagenet32(sources: Sources, out: Path) -> int:
    """Write twenty of the meta-test classes; images of training and test go together, each seed splits them anew."""
    drawn = sorted(meta_test(sources, "imagenet32"), key=lambda name: hashlib.sha256(name.encode()).digest())
    kept = frozenset(drawn[:NUM_IMAGENET_CLASSES])
    return write_thinned(packed(sources, "imagenet32"), out, max_images=9_000, classes=kept, splits=False)


def emoji(sources: Sources, out: Path) -> int:
    """Write the meta-test classes."""
    return write_thinned(packed(sources, "emoji"), out, classes=frozenset(meta_test(sources, "emoji")))


def digits(_: Sources, out: Path) -> int:
    """Write scikit-learn's digits as the demo has them."""
    with tempfile.TemporaryDirectory(prefix="archprior-") as scratch:
        archive = Path(scratch) / "digits.zip"
        command = [sys.executable, str(ROOT / "examples" / "digits.py"), str(archive)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return write_thinned(archive, out)


def script(sources: Sources, out: Path) -> int:
    """Write the letters of one script of meta-test, each a class, as every font of that script draws it.

    Raises:
        InvalidOptionError: The script is in no meta-test.
    """
    if SCRIPT not in meta_test(sources, "scripts"):
        raise InvalidOptionError("script to stay unseen", got=SCRIPT, expected="one of meta-test")
    fonts = sorted(
        path
        for name in scripts.PACKAGES
        for path in (sources.packages.debian(name).root / scripts.FOLDER).glob("*.[ot]tf")
        if scripts.script_of(path) == SCRIPT
    )
    by_letter: dict[str, list[scripts.Letter]] = defaultdict(list)
    for path, letter in scripts.letters_by_script(fonts)[SCRIPT]:
        by_letter[letter].append((path, letter))
    with tempfile.TemporaryDirectory(prefix="archprior-") as scratch:
        names = [unicodedata.name(letter).partition(" ")[2].lower() for letter in sorted(by_letter)]
        drawn = [scripts.drawings(SCRIPT, by_letter[letter]) for letter in sorted(by_letter)]
        path = Path(scratch) / "script.npz"
        labels = np.repeat(np.arange(len(names)), [len(images) for images in drawn])
        np.savez(path, x=np.concatenate([np.stack(images) for images in drawn]), y=labels, classes=np.array(names))
        return write_thinned(path, out)


DATASETS: Final[Mapping[str, Callable[[Sources, Path], int]]] = {
    "cifar10": cifar10,
    "fashion_mnist": fashion_mnist,
    "imagenet32": imagenet32,
    "digits": digits,
    "emoji": emoji,
    SCRIPT.lower(): script,
}


def packed(sources: Sources, name: str) -> Path:
    """Return the packed file of a domain."""
    return sources.domains / name / f"{name}.npz"


def meta_test(sources: Sources, name: str) -> tuple[str, ...]:
    """Return the classes of a domain that no prior learns from."""
    return ClassSplit.read(sources.domains / name / "split.json").meta_test


def write_thinned(
    source: Path,
    out: Path,
    *,
    max_images: int | None = None,
    classes: frozenset[str] | None = None,
    splits: bool = True,
) -> int:
    """Write some classes of a dataset as a zip, and of each at most its share; return the number of images.

    Raises:
        InvalidOptionError: The dataset has not all of the classes.
    """
    files = [(file.split if splits else None, file.class_name) for file in iterate_files(source)]
    found = {name for _, name in files}
    # A slash in a packed class's name is a hyphen in a folder's.
    wanted = found if classes is None else {name.replace("/", "-") for name in classes}
    if not wanted <= found:
        raise InvalidOptionError(f"classes of {source.name}", got=", ".join(sorted(wanted - found)))
    positions = [position for position, (_, name) in enumerate(files) if name in wanted]
    groups = [files[position] for position in positions]
    kept = {positions[place] for place in thinned(groups, max_images or len(groups))}
    write_zip(source, out, splits=splits, wanted=kept.__contains__)
    return len(kept)


def copy_into(folder: Path, files: Iterator[SourceFile]) -> None:
    """Write files into class folders."""
    for file in files:
        path = folder / file.class_name / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)


if __name__ == "__main__":
    sys.exit(main())
