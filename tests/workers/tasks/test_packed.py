"""Packed datasets: the three forms, and files that are none."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from workers.contracts.errors import InvalidDatasetError
from workers.tasks.images import SPLITS, LabeledImages
from workers.tasks.packed import PackedJpegs, png_bytes, read_packed

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
NUMBERS = np.array([1, 0, 1, 2, 2, 0])


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(**arrays: NDArray[np.generic]) -> Path:
        np.savez(tmp_path / "packed.npz", allow_pickle=True, **arrays)
        return tmp_path / "packed.npz"

    return write


def pixels_of(path: Path) -> LabeledImages:
    packed = read_packed(path)
    assert isinstance(packed, LabeledImages)
    return packed


def test_pixels_with_class_names(save: Callable[..., Path]) -> None:
    packed = pixels_of(save(x=PIXELS, y=NUMBERS.astype(np.uint8), classes=np.array(["a", "b", "c"])))

    assert (packed.images == PIXELS).all()
    assert packed.labels.dtype == np.int64
    assert packed.labels.tolist() == NUMBERS.tolist()
    assert packed.classes == ("a", "b", "c")
    assert packed.splits is None


def test_without_names_the_numbers_that_occur_are_the_names(save: Callable[..., Path]) -> None:
    packed = pixels_of(save(x=PIXELS, y=np.array([[10], [3], [10], [7], [7], [3]])))

    assert packed.classes == ("3", "7", "10")
    assert packed.labels.tolist() == [2, 0, 2, 1, 1, 0]


@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 4, 5, 1)])
def test_grey_pixels_become_three_channels(save: Callable[..., Path], shape: tuple[int, ...]) -> None:
    packed = pixels_of(save(x=PIXELS[..., 0].reshape(shape), y=NUMBERS))

    assert (packed.images == PIXELS[..., :1]).all()
    assert packed.images.shape == (6, 4, 5, 3)


def test_train_and_test_arrays_declare_splits(save: Callable[..., Path]) -> None:
    packed = pixels_of(save(x_train=PIXELS[:4], y_train=NUMBERS[:4], x_test=PIXELS[4:], y_test=NUMBERS[4:]))

    assert (packed.images == PIXELS).all()
    assert packed.splits is not None
    assert [SPLITS[code] for code in packed.splits] == ["train"] * 4 + ["test"] * 2


def test_jpeg_files_are_handed_out_as_they_are(save: Callable[..., Path]) -> None:
    files = [png_bytes(image) + b"tail" for image in PIXELS]
    offsets = np.cumsum([0, *map(len, files)])

    packed = read_packed(
        save(
            jpeg=np.frombuffer(b"".join(files), np.uint8),
            offsets=offsets,
            y=NUMBERS,
            split=np.array([0, 0, 0, 1, 1, 0]),
        )
    )

    assert isinstance(packed, PackedJpegs)
    assert [packed.file(position) for position in range(6)] == files
    assert packed.splits is not None
    assert [SPLITS[code] for code in packed.splits] == ["train", "train", "train", "test", "test", "train"]


def test_png_bytes_lose_nothing() -> None:
    with Image.open(io.BytesIO(png_bytes(PIXELS[0]))) as image:
        assert (np.asarray(image) == PIXELS[0]).all()


class Trap:
    """Unpickling it would leave a mark in the environment."""

    mark: ClassVar[str] = "ARCHPRIOR_TEST_UNPICKLED"

    def __reduce__(self) -> tuple[object, ...]:
        return os.putenv, (self.mark, "1")


BYTES = np.zeros(10, np.uint8)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": PIXELS}, "no packed dataset.*got 'x'"),
        ({"x_train": PIXELS, "y_train": NUMBERS}, "no packed dataset"),
        ({"x": PIXELS.astype(np.float32), "y": NUMBERS}, r"x is not uint8.*float32"),
        ({"x": PIXELS[0, 0], "y": NUMBERS[:5]}, "x is not uint8"),
        ({"x": PIXELS[..., :2], "y": NUMBERS}, "x is not uint8"),
        ({"x": PIXELS, "y": NUMBERS[:5]}, "not as many labels as images"),
        ({"x": PIXELS, "y": NUMBERS.astype(float)}, "y is not a row of integers"),
        ({"x": PIXELS, "y": NUMBERS, "classes": np.array(["a", "b"])}, "names none of the 2 classes"),
        ({"x": PIXELS, "y": NUMBERS - 1, "classes": np.array(["a", "b", "c"])}, "names none of the 3 classes"),
        ({"x": PIXELS, "y": NUMBERS, "classes": np.array(["a", "b", "a"])}, "not distinct names"),
        ({"x": PIXELS, "y": NUMBERS, "classes": np.array([1, 2, 3])}, "not distinct names"),
        ({"x": np.array([Trap()]), "y": NUMBERS}, "cannot be read.*allow_pickle"),
        (
            {"x_train": PIXELS, "y_train": NUMBERS, "x_test": PIXELS[:, :3], "y_test": NUMBERS},
            "x_train and x_test differ in size",
        ),
        ({"jpeg": BYTES, "offsets": np.array([0, 5]), "y": NUMBERS}, "offsets do not cut"),
        ({"jpeg": BYTES, "offsets": np.array([0, 5, 11]), "y": NUMBERS[:2]}, "offsets do not cut"),
        ({"jpeg": BYTES, "offsets": np.array([0, 5, 4]), "y": NUMBERS[:2]}, "offsets do not cut"),
        ({"jpeg": BYTES, "offsets": np.array([-1, 5, 9]), "y": NUMBERS[:2]}, "offsets do not cut"),
        ({"jpeg": BYTES.astype(np.int16), "offsets": np.array([0, 5]), "y": NUMBERS[:1]}, "jpeg is not a row of bytes"),
        ({"jpeg": BYTES, "offsets": np.array([0, 5]), "y": NUMBERS[:1], "split": np.array([3])}, "split is not 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    save: Callable[..., Path], arrays: dict[str, object], reason: str
) -> None:
    with pytest.raises(InvalidDatasetError, match=reason):
        read_packed(save(**arrays))


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "packed.npz").write_bytes(data)

    with pytest.raises(InvalidDatasetError, match=r"packed\.npz cannot be read"):
        read_packed(tmp_path / "packed.npz")
