"""Small archives, real images, and the shared data sets where they are at hand."""

import io
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from workers.tasks.images import LabeledImages
from workers.tasks.limits import ArchiveLimits

Files = Mapping[str, bytes]


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    """`png(number, side=8, mode="RGB", format="PNG")`: a noise image as a file, another one for each number."""

    def make(number: int = 0, *, side: int = 8, mode: str = "RGB", format: str = "PNG") -> bytes:
        noise = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).convert(mode).save(buffer, format)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def class_files(png: Callable[..., bytes]) -> Callable[..., dict[str, bytes]]:
    """`class_files("a", "b/c", each=6)`: six images in each folder, all of them different."""

    def make(*folders: str, each: int = 6) -> dict[str, bytes]:
        return {
            f"{folder}/{number}.png": png(100 * position + number)
            for position, folder in enumerate(folders)
            for number in range(each)
        }

    return make


@pytest.fixture
def zip_of(tmp_path: Path) -> Callable[[Files], Path]:
    """Write files into an archive and return its path."""

    def write(files: Files) -> Path:
        path = tmp_path / "archive.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path

    return write


@pytest.fixture
def limits() -> ArchiveLimits:
    """Limits small enough to reach in a test."""
    return ArchiveLimits(
        max_archive_bytes=4_000_000,
        max_entries=60,
        max_unpacked_bytes=6_000_000,
        max_file_bytes=3_000_000,
        max_pixels=40_000,
        max_classes=8,
        timeout_s=60,
    )


@pytest.fixture(scope="session")
def digits() -> LabeledImages:
    """scikit-learn's digits: 1,797 real 8 x 8 scans of handwriting, in 10 classes."""
    scans, labels = load_digits(return_X_y=True)
    grey = np.rint(scans.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    names = tuple(str(digit) for digit in range(10))
    return LabeledImages(images=np.repeat(grey[..., None], 3, axis=-1), labels=labels.astype(np.int64), classes=names)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the data for development; tests that need it are skipped where it is absent."""
    default = Path(__file__).parents[4] / "shared" / "data"
    folder = Path(os.environ.get("ARCHPRIOR_SHARED_DATA", default))
    if not (folder / "cifar10_tiny.npz").is_file():
        pytest.skip(f"no cifar10_tiny.npz in {folder}; set ARCHPRIOR_SHARED_DATA")
    return folder
