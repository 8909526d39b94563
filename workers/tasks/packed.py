"""Datasets packed into one `.npz` file, never unpickled. N images of H x W pixels, K classes. Three forms:

    jpeg uint8 [bytes], offsets int64 [N + 1], y [N], classes [K], optionally names [K] to be read in place
    of classes, and split [N] (0 train, 1 test)
    x uint8 [N, H, W, 3], y [N]
    x_train, y_train, x_test, y_test, as x and y

The arrays may be grey ([N, H, W] or [N, H, W, 1]); without `classes`, names are the labels' numbers.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.contracts.errors import InvalidDatasetError
from workers.tasks.images import SPLITS, LabeledImages

_FORMS = "jpeg + offsets + y, x + y, or x_train + y_train + x_test + y_test"


@dataclass(frozen=True, kw_only=True)
class PackedJpegs:
    """JPEG files one after the other; file i is `data[offsets[i]:offsets[i + 1]]`. Fields as in `LabeledImages`."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    splits: NDArray[np.int8] | None

    def file(self, position: int) -> bytes:
        """Return the bytes of one JPEG file."""
        return self.data[self.offsets[position] : self.offsets[position + 1]].tobytes()


def read_packed(path: Path) -> PackedJpegs | LabeledImages:
    """Return a packed dataset: its files where it holds files, else its pixels (H x W, not always square).

    Raises:
        InvalidDatasetError: It has none of the three forms, or its arrays do not fit together.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as packed:
            arrays: dict[str, NDArray[np.generic]] = {name: packed[name] for name in packed.files}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        todo = "Save plain arrays with numpy.savez."
        raise InvalidDatasetError(f"the file {path.name} cannot be read ({error})", todo=todo) from error
    if {"jpeg", "offsets", "y"} <= arrays.keys():
        return _jpegs(path, arrays)
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        num_train, num_test = len(arrays["y_train"]), len(arrays["y_test"])
        pixels = [_pixels(path, arrays, name) for name in ("x_train", "x_test")]
        if pixels[0].shape[1:] != pixels[1].shape[1:]:
            raise _misfit(path, "x_train and x_test differ in size", (pixels[0].shape, pixels[1].shape))
        numbers = np.concatenate([_flat_integers(path, arrays, name) for name in ("y_train", "y_test")])
        return _labeled(path, arrays, np.concatenate(pixels), numbers, _split_codes([0] * num_train + [1] * num_test))
    if {"x", "y"} <= arrays.keys():
        return _labeled(path, arrays, _pixels(path, arrays, "x"), _flat_integers(path, arrays, "y"), None)
    raise InvalidDatasetError(
        f"the file {path.name} is no packed dataset", got=", ".join(sorted(arrays)), expected=f"arrays {_FORMS}"
    )


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image as a PNG file.

    Args:
        pixels: uint8 [H, W, 3].
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _jpegs(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> PackedJpegs:
    data, offsets = arrays["jpeg"], _flat_integers(path, arrays, "offsets")
    numbers = _flat_integers(path, arrays, "y")
    if data.dtype != np.uint8 or data.ndim != 1:
        raise _misfit(path, "jpeg is not a row of bytes", f"{data.dtype} {data.shape}")
    if len(offsets) != len(numbers) + 1 or offsets[0] < 0 or offsets[-1] > len(data) or (np.diff(offsets) < 0).any():
        raise _misfit(path, "offsets do not cut jpeg into one file per label", f"{len(offsets)} offsets")
    splits = None
    if "split" in arrays:
        codes = _flat_integers(path, arrays, "split")
        if len(codes) != len(numbers) or not np.isin(codes, (0, 1)).all():
            raise _misfit(path, "split is not 0 (train) or 1 (test) for each image", codes.shape)
        splits = _split_codes(codes.tolist())
    labels, classes = _labels(path, arrays, numbers)
    return PackedJpegs(
        data=data.astype(np.uint8, copy=False), offsets=offsets, labels=labels, classes=classes, splits=splits
    )


def _labeled(
    path: Path,
    arrays: Mapping[str, NDArray[np.generic]],
    pixels: NDArray[np.uint8],
    numbers: NDArray[np.int64],
    splits: NDArray[np.int8] | None,
) -> LabeledImages:
    if len(pixels) != len(numbers):
        raise _misfit(path, "there are not as many labels as images", (len(pixels), len(numbers)))
    labels, classes = _labels(path, arrays, numbers)
    return LabeledImages(images=pixels, labels=labels, classes=classes, splits=splits)


def _pixels(path: Path, arrays: Mapping[str, NDArray[np.generic]], name: str) -> NDArray[np.uint8]:
    """Return an array as [N, H, W, 3]."""
    array = arrays[name]
    if array.ndim == 3:
        array = array[..., None]
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in {1, 3}:
        raise _misfit(path, f"{name} is not uint8 [N, H, W, 3]", f"{array.dtype} {array.shape}")
    pixels = array.astype(np.uint8, copy=False)
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels


def _flat_integers(path: Path, arrays: Mapping[str, NDArray[np.generic]], name: str) -> NDArray[np.int64]:
    array = arrays[name]
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise _misfit(path, f"{name} is not a row of integers", f"{array.dtype} {array.shape}")
    return array.astype(np.int64)


def _labels(
    path: Path, arrays: Mapping[str, NDArray[np.generic]], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    # ImageNet's packings have ids in `classes` and words in `names`; people read words.
    named = arrays.get("names", arrays.get("classes"))
    if named is None:
        found, labels = np.unique(numbers, return_inverse=True)
        return labels.astype(np.int64), tuple(str(number) for number in found.tolist())
    classes = tuple(str(name) for name in named.tolist())
    if named.dtype.kind != "U" or len(set(classes)) != len(classes):
        raise _misfit(path, "classes are not distinct names", ", ".join(classes[:10]))
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(classes):
        raise _misfit(path, f"a label names none of the {len(classes)} classes", int(numbers.max()))
    return numbers, classes


def _split_codes(is_test: list[int]) -> NDArray[np.int8]:
    return np.where(np.array(is_test) == 1, SPLITS.index("test"), SPLITS.index("train")).astype(np.int8)


def _misfit(path: Path, what: str, got: object) -> InvalidDatasetError:
    return InvalidDatasetError(f"in {path.name}, {what}", got=got, expected=f"arrays {_FORMS}")
