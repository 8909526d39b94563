"""From the bytes of an image file to pixels, whatever its kind; the one place that hands uploads to Pillow."""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# The two plugins that Pillow would otherwise look for by loading all of its plugins.
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from workers.contracts.errors import InvalidDatasetError

FORMATS = (
    "JPEG",
    "PNG",
    "BMP",
    "GIF",
    "PPM",
    TiffImagePlugin.TiffImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
)
WHITE = (255, 255, 255, 255)

_WIDE_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_MODES = _WIDE_MODES | {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
# How Pillow's readers fail on damaged files; memory that runs out is no damage and goes on to the caller.
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


class UnreadableImageError(InvalidDatasetError):
    """A file that is no image of an accepted kind, or is damaged; `what` is the reason alone."""


class OversizedImageError(InvalidDatasetError):
    """An image with more pixels than accepted; `what` is the reason alone."""


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What an image's header says: sides in pixels and Pillow's mode."""

    width: int
    height: int
    mode: str


def measure_image(data: bytes, *, max_pixels: int) -> ImageFacts:
    """Decode an image to its end, and return what it is.

    Of a JPEG, all coefficients are read and only the transform to pixels is done at an eighth of the size, which is
    several times faster and finds the same damage.

    Raises:
        UnreadableImageError: It cannot be decoded, or has pixels that are no colors.
        OversizedImageError: It has more than `max_pixels`; told from its header, before decoding.
    """
    with _opened(data, max_pixels) as image:
        facts = ImageFacts(width=image.width, height=image.height, mode=image.mode)
        image.draft(None, (1, 1))
        image.load()
        return facts


def measure_and_shrink(data: bytes, side: int, *, max_pixels: int) -> tuple[ImageFacts, Image.Image | None]:
    """Decode an image to its end, and return what it is and a small one of it.

    Of a JPEG, the transform to pixels is done at the smallest size that the small image can be made of.

    Args:
        data: Bytes of the image file.
        side: Longer side of the small image, in pixels; the aspect is kept. It is None where making it has failed,
            which says nothing against the image.
        max_pixels: Of the image in the file.

    Raises:
        UnreadableImageError, OversizedImageError: As `measure_image`.
    """
    with _opened(data, max_pixels) as image:
        facts = ImageFacts(width=image.width, height=image.height, mode=image.mode)
        scale = side / max(image.size)
        size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
        image.draft(None, size)
        image.load()
        try:
            return facts, _shrunk(image, size)
        except (MemoryError, *_DAMAGE):
            return facts, None


def decode_square(data: bytes, side: int | None, *, max_pixels: int) -> Image.Image:
    """Return an image in RGB, resized to `side` x `side` pixels by bilinear interpolation with antialias.

    The aspect is not kept, and the orientation noted in EXIF is not applied, as in `preprocessing.json`. Transparent
    pixels lie on white. 16-bit greys keep their upper 8 bits. An animation's first frame counts. A JPEG of more than
    eight times `side` is decoded at half its size, or less, but never below four times `side`.

    Args:
        data: Bytes of the image file.
        side: In pixels; None keeps the image's own size.
        max_pixels: Of the image in the file.

    Raises:
        UnreadableImageError: It cannot be decoded.
        OversizedImageError: It has more than `max_pixels`.
    """
    with _opened(data, max_pixels) as image:
        if side is not None:
            image.draft(None, (4 * side, 4 * side))
        image.load()
        if side is None:
            return _to_rgb(image)
        return _to_rgb(image).resize((side, side), Image.Resampling.BILINEAR)


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise OversizedImageError(f"{image.width} x {image.height} pixels")
            if image.mode not in _MODES:
                raise UnreadableImageError(f"pixels of mode {image.mode} are not supported")
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise OversizedImageError(f"too many pixels ({error})") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not an image of a known kind") from error
    except _DAMAGE as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from error


def _shrunk(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return a large image's small one at a cost that does not grow with it: of 64 of its pixels for each."""
    grid = (8 * size[0], 8 * size[1])
    if image.width * image.height > grid[0] * grid[1]:
        image = image.resize(grid, Image.Resampling.NEAREST)
    return _to_rgb(image).resize(size, Image.Resampling.BILINEAR)


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
