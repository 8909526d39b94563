"""Tell what images show, by the network that lies in the same folder.

Needs Python 3.10, numpy, pillow 10.1 or newer, and onnxruntime, and of the folder `model.onnx`, `preprocessing.json`
and `labels.json`. Images of any size, and of every mode that training accepts, are read exactly as those
that the network learned from.

usage: python predict.py [--bundle DIR] [--top K] [--json] IMAGE_OR_FOLDER...

Exit status: 0; 1 where an image could not be read, the others being told; 2 where nothing could be done.
"""

import argparse
import io
import json
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import PIL
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

# The two plugins that Pillow would otherwise look for by loading all of its plugins.
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

MODEL, PREPROCESSING, LABELS = "model.onnx", "preprocessing.json", "labels.json"
# Of preprocessing.json; one that says none is of version 1.
FORMAT_VERSION = 1
# What this script can do; a network that wants its images otherwise comes with another script.
KNOWN = {"mode": "RGB", "resize": "bilinear antialias to a square", "input": "uint8 [N,3,H,W] 0..255"}
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = (
    "JPEG",
    "PNG",
    "BMP",
    "GIF",
    "PPM",
    TiffImagePlugin.TiffImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
)
MAX_PIXELS = 64_000_000
BATCH_SIZE = 64
WHITE = (255, 255, 255, 255)
_WIDE_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_MODES = _WIDE_MODES | {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
# How Pillow's readers fail on damaged files.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_NO_MODEL = (
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.NoSuchFile,
    runtime.NotImplemented,
    runtime.RuntimeException,
)


class UnusableError(Exception):
    """A bundle that holds no network, or a path that names no image: nothing can be predicted."""


class UnreadableImageError(Exception):
    """One image that is of no accepted kind, is damaged, or is too large; the message is the reason alone."""


@dataclass(frozen=True)
class Prediction:
    """What one image shows: the likeliest labels with their probabilities, or why it could not be read."""

    image: str
    top: tuple[tuple[str, float], ...] = ()
    error: str = ""

    def to_json(self) -> dict[str, object]:
        """Return it as plain JSON values."""
        if self.error:
            return {"image": self.image, "error": self.error}
        top = [{"label": label, "probability": probability} for label, probability in self.top]
        return {"image": self.image, "top": top}

    def __str__(self) -> str:
        return f"{self.image}: " + ", ".join(f"{label} {probability:.1%}" for label, probability in self.top)


class Classifier:
    """The network of a bundle, on the CPU.

    Args:
        folder: The bundle: where an adaptation was downloaded to.

    Raises:
        UnusableError: A file of it is missing, cannot be read, or does not fit the others; or Pillow is too old.
    """

    def __init__(self, folder: Path) -> None:
        if not hasattr(Image.Image, "has_transparency_data"):
            raise UnusableError(f"pillow {PIL.__version__} is too old; install pillow 10.1 or newer")
        preprocessing, labels = _read_json(folder / PREPROCESSING), _read_json(folder / LABELS)
        version = preprocessing.get("format_version", FORMAT_VERSION) if isinstance(preprocessing, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise UnusableError(
                f"{folder / PREPROCESSING} is of format version {version}, and this script knows {FORMAT_VERSION}: "
                "use the predict.py that came with it, or update ArchPrior"
            )
        if not isinstance(preprocessing, dict) or any(preprocessing.get(key) != KNOWN[key] for key in KNOWN):
            raise UnusableError(f"{folder / PREPROCESSING} asks for what this script cannot do; it can do {KNOWN}")
        side = preprocessing.get("image_size")
        if not isinstance(side, int):
            raise UnusableError(f"{folder / PREPROCESSING} has no image_size in pixels")
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise UnusableError(f"{folder / LABELS} is no list of names")
        path = folder / MODEL
        if not path.is_file():
            raise _missing(path)
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except _NO_MODEL as error:
            raise UnusableError(f"{path} is no network that ONNX Runtime can run: {error}") from error
        self.labels: list[str] = labels
        self.side = side
        inputs, outputs = self._session.get_inputs()[0], self._session.get_outputs()[0]
        if inputs.shape[1:] != [3, side, side] or outputs.shape[1:] != [len(labels)]:
            raise UnusableError(f"{path} does not fit {PREPROCESSING} and {LABELS}: they are of two networks")
        self._input = inputs.name

    def probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Return probabilities [N, K] of images [N, side, side, 3]."""
        [logits] = self._session.run(None, {self._input: np.ascontiguousarray(images.transpose(0, 3, 1, 2))})
        exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        probabilities: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return probabilities

    def predict(self, paths: Iterable[Path], *, top: int) -> Iterator[Prediction]:
        """Yield a prediction for each image file, in order, with its `top` likeliest labels, likeliest first."""
        remaining = iter(paths)
        while batch := list(islice(remaining, BATCH_SIZE)):
            yield from self._predict_batch(batch, top)

    def _predict_batch(self, paths: Sequence[Path], top: int) -> Iterator[Prediction]:
        pixels: dict[int, npt.NDArray[np.uint8]] = {}
        errors: dict[int, str] = {}
        for position, path in enumerate(paths):
            try:
                pixels[position] = decode_square(path.read_bytes(), self.side)
            except UnreadableImageError as error:
                errors[position] = str(error)
            except OSError as error:
                errors[position] = error.strerror or str(error)
        found = dict(zip(pixels, self.probabilities(np.stack(list(pixels.values()))), strict=True)) if pixels else {}
        for position, path in enumerate(paths):
            if position in errors:
                yield Prediction(str(path), error=errors[position])
                continue
            best = np.argsort(-found[position], kind="stable")[:top]
            yield Prediction(str(path), tuple((self.labels[label], float(found[position][label])) for label in best))


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Return the files that are named, and the images in the folders that are, whatever their depth, by name.

    Hidden files in folders, and files that no image's name ends like, are passed over.

    Raises:
        UnusableError: Nothing lies at a path, or a folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if _is_image(file.relative_to(path)) and file.is_file())
            if not inside:
                raise UnusableError(f"no image lies in the folder {path}; their names end in {', '.join(SUFFIXES)}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UnusableError(f"no such image or folder: {path}")
    return found


def decode_square(data: bytes, side: int) -> npt.NDArray[np.uint8]:
    """Return the pixels [side, side, 3] of an image file, as the network learned from them.

    Resized by bilinear interpolation with antialias; the aspect is not kept, and EXIF's orientation is not applied.
    Transparent pixels lie on white, 16-bit greys keep their upper 8 bits, and an animation's first frame counts.

    Raises:
        UnreadableImageError: It cannot be decoded.
    """
    with _opened(data) as image:
        # A large JPEG is decoded at half its size, or less, but never below four times the side.
        image.draft(None, (4 * side, 4 * side))
        image.load()
        return np.asarray(_to_rgb(image).resize((side, side), Image.Resampling.BILINEAR))


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImageError(f"{image.width} x {image.height} pixels are too many")
            if image.mode not in _MODES:
                raise UnreadableImageError(f"pixels of mode {image.mode} are not supported")
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(f"too many pixels ({error})") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not an image of a known kind") from error
    except _DAMAGE as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode in _WIDE_MODES:
        # 65535 / 257 is 255; the conversion to L then clips what 32-bit files hold beyond.
        return image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L").convert("RGB")
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, WHITE)
        background.alpha_composite(image.convert("RGBA"))
        image = background
    return image.convert("RGB")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.parts)


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError) as error:
        raise UnusableError(f"{path} cannot be read: {error}") from error


def _missing(path: Path) -> UnusableError:
    needed = ", ".join((MODEL, PREPROCESSING, LABELS))
    return UnusableError(f"there is no {path}; a bundle is a folder with {needed}")


def run(bundle: Path, images: Iterable[Path], *, top: int, as_json: bool) -> bool:
    """Print what images show, one a line, or all as one line of JSON; return whether all could be read.

    Raises:
        UnusableError: Nothing could be predicted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal cannot show is no reason to end.
        sys.stdout.reconfigure(errors="backslashreplace")
    paths = find_images(images)
    predictions = []
    num_unreadable = 0
    for prediction in Classifier(bundle).predict(paths, top=top):
        if prediction.error:
            num_unreadable += 1
            print(f"error: {prediction.image}: {prediction.error}", file=sys.stderr)
        if as_json:
            predictions.append(prediction.to_json())
        elif not prediction.error:
            print(prediction)
    if as_json:
        print(json.dumps({"predictions": predictions}))
    return num_unreadable == 0


def main() -> int:
    """Do what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description="Tell what images show, by the network that lies in the same folder.")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument(
        "--bundle", type=Path, default=Path(__file__).parent, metavar="DIR", help="the network's folder"
    )
    parser.add_argument("--top", type=int, default=3, metavar="K", help="labels for each image (default: 3)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON in place of text")
    arguments = parser.parse_args()
    if arguments.top < 1:
        parser.error("--top must be 1 or more")
    try:
        all_read = run(arguments.bundle, arguments.images, top=arguments.top, as_json=arguments.json)
    except UnusableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if all_read else 1


if __name__ == "__main__":
    sys.exit(main())
