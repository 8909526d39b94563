"""From image files to pixels, for every kind of pixel and for damaged files."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from search_spaces.standalone import predict
from workers.tasks.decoding import ImageFacts, OversizedImageError, UnreadableImageError, decode_square, measure_image
from workers.tasks.limits import ArchiveLimits

MANY = 10**6


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_of(data: bytes, side: int | None = None) -> NDArray[np.uint8]:
    image = decode_square(data, side, max_pixels=MANY)
    assert image.mode == "RGB"
    return np.asarray(image)


def transparent_palette() -> bytes:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    return file_of(image, transparency=1)


def half_blue() -> Image.Image:
    return Image.new("RGBA", (1, 1), (0, 0, 255, 128))


KINDS: list[tuple[bytes, list[tuple[int, ...]]]] = [
    (file_of(Image.new("RGB", (1, 1), (10, 20, 30))), [(10, 20, 30)]),
    (file_of(Image.new("L", (1, 1), 77)), [(77, 77, 77)]),
    (file_of(Image.new("1", (1, 1), 1)), [(255, 255, 255)]),
    (file_of(Image.new("RGBA", (1, 1), (10, 20, 30, 255))), [(10, 20, 30)]),
    (file_of(Image.new("RGBA", (1, 1), (10, 20, 30, 0))), [(255, 255, 255)]),
    (file_of(half_blue()), [(127, 127, 255)]),
    (file_of(half_blue(), "TIFF"), [(127, 127, 255)]),
    (file_of(Image.new("LA", (1, 1), (10, 0))), [(255, 255, 255)]),
    (transparent_palette(), [(10, 20, 30), (255, 255, 255)]),
    (file_of(Image.new("RGB", (1, 1), (1, 2, 3)), transparency=(1, 2, 3)), [(255, 255, 255)]),
    (file_of(Image.new("L", (1, 1), 9), transparency=9), [(255, 255, 255)]),
    (file_of(Image.new("CMYK", (1, 1), (255, 0, 0, 0)), "TIFF"), [(0, 255, 255)]),
    (
        file_of(Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))),
        [(0,) * 3, (1,) * 3, (128,) * 3, (255,) * 3],
    ),
    (file_of(Image.fromarray(np.array([[65535, 0]], np.uint16)), "TIFF"), [(255,) * 3, (0,) * 3]),
    (file_of(Image.fromarray(np.array([[90000, 0]], np.int32)), "TIFF"), [(255,) * 3, (0,) * 3]),
    (b"P5 2 1 65535\n\xff\xff\x00\x00", [(255,) * 3, (0,) * 3]),
    (b"P6 1 1 255\n\x01\x02\x03", [(1, 2, 3)]),
]


@pytest.mark.parametrize(("data", "colors"), KINDS)
def test_every_kind_of_pixel_becomes_the_color_that_is_seen(data: bytes, colors: list[tuple[int, ...]]) -> None:
    measure_image(data, max_pixels=MANY)

    assert pixels_of(data).reshape(-1, 3).tolist() == [list(color) for color in colors]


@pytest.mark.parametrize("side", [1, 2, 16])
@pytest.mark.parametrize("data", [data for data, _ in KINDS])
def test_the_script_beside_an_exported_network_reads_the_same_pixels(data: bytes, side: int) -> None:
    assert np.array_equal(predict.decode_square(data, side), pixels_of(data, side))


@pytest.mark.parametrize("size", [(640, 480), (97, 413), (5, 7)])
@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *(("RGB", kind) for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF")),
        *(("L", "JPEG"), ("CMYK", "JPEG"), ("YCbCr", "JPEG"), ("1", "PNG"), ("P", "PNG"), ("P", "GIF")),
        *(("RGBA", "PNG"), ("RGBA", "WEBP"), ("LA", "PNG"), ("I;16", "PNG"), ("I;16", "TIFF")),
    ],
)
def test_the_script_beside_an_exported_network_resizes_alike(mode: str, kind: str, size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(random.integers(0, 65536, size[::-1], dtype=np.uint16))
    else:
        channels = "RGBA" if mode in {"RGBA", "LA"} else "RGB"
        noise = random.integers(0, 256, (*size[::-1], len(channels)), dtype=np.uint8)
        image = Image.fromarray(noise).convert(mode)
    data = file_of(image, kind)

    for side in (8, 16, 24, 32, 48, 64):
        assert np.array_equal(predict.decode_square(data, side), pixels_of(data, side))


def test_the_script_beside_an_exported_network_reads_the_first_frame_and_refuses_alike() -> None:
    red, blue = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    moving = file_of(red, "GIF", save_all=True, append_images=[blue])
    assert np.array_equal(predict.decode_square(moving, 4), pixels_of(moving, 4))

    floats = file_of(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")
    for data in (floats, b"", b"no image", file_of(red)[:50]):
        with pytest.raises(UnreadableImageError) as ours:
            pixels_of(data, 4)
        with pytest.raises(predict.UnreadableImageError) as scripts:
            predict.decode_square(data, 4)
        assert str(scripts.value) == ours.value.what
    assert ArchiveLimits().max_pixels == predict.MAX_PIXELS


def test_facts_come_from_the_header_and_not_from_the_reduced_decoding() -> None:
    data = file_of(Image.new("L", (640, 480), 3), "JPEG")

    assert measure_image(data, max_pixels=MANY) == ImageFacts(width=640, height=480, mode="L")


def test_resizing_is_pillows_antialiased_bilinear_to_a_square() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 61, 3), dtype=np.uint8))

    expected = np.asarray(noise.resize((16, 16), Image.Resampling.BILINEAR))
    assert (pixels_of(file_of(noise), 16) == expected).all()
    assert pixels_of(file_of(noise), 100).shape == (100, 100, 3)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_reduced_decoding_of_large_jpegs_changes_next_to_nothing(options: dict[str, bool]) -> None:
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    data = file_of(small.resize((640, 480), Image.Resampling.BICUBIC), "JPEG", quality=90, **options)

    with Image.open(io.BytesIO(data)) as image:
        whole = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR)).astype(int)
    difference = np.abs(pixels_of(data, 16).astype(int) - whole)

    # One eighth in the frequency domain, then antialiased: a rounding step here and there.
    assert difference.mean() < 1
    assert difference.max() <= 4


def test_only_the_first_frame_of_an_animation_counts() -> None:
    red, blue = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    data = file_of(red, "GIF", save_all=True, append_images=[blue])

    assert (pixels_of(data) == (255, 0, 0)).all()


@pytest.mark.parametrize(
    "reader", [measure_image, lambda data, max_pixels: decode_square(data, 4, max_pixels=max_pixels)]
)
def test_an_image_above_the_limit_of_pixels_is_told_before_decoding(reader: Callable[..., object]) -> None:
    # Cut off after its header: decoding would fail in another way.
    data = file_of(Image.new("RGB", (100, 100)))[:50]

    with pytest.raises(OversizedImageError, match="100 x 100 pixels"):
        reader(data, max_pixels=9_999)
    with pytest.raises(UnreadableImageError):
        reader(data, max_pixels=10_000)


def test_floating_point_pixels_are_refused() -> None:
    data = file_of(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")

    with pytest.raises(UnreadableImageError, match="mode F are not supported"):
        measure_image(data, max_pixels=MANY)


@pytest.mark.filterwarnings("ignore")  # Pillow's, about the damage
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "P", "1"])
def test_damage_anywhere_is_unreadable_or_survived_and_never_another_error(
    png: Callable[..., bytes], kind: str, mode: str
) -> None:
    if kind in {"JPEG", "PPM"} and mode == "P":
        mode = "L"
    good = png(side=20, mode=mode, format=kind)
    random = np.random.default_rng(0)
    reasons = []
    for _ in range(150):
        data = bytearray(good[: random.integers(1, len(good) + 1)] if random.random() < 0.3 else good)
        for place in random.integers(0, min(len(data), 200), random.integers(1, 6)):
            data[place] = random.integers(0, 256)
        for read in (measure_image, lambda data, max_pixels: decode_square(data, 8, max_pixels=max_pixels)):
            try:
                read(bytes(data), max_pixels=MANY)
            except (UnreadableImageError, OversizedImageError) as error:
                reasons.append(error.what)
    assert len(reasons) > 30
    assert all(reasons)
