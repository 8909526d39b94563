"""The picture of a dataset's examples."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workers.tasks import thumbnails
from workers.tasks.archive import check_archive
from workers.tasks.decoding import ImageFacts, measure_and_shrink, measure_image
from workers.tasks.layout import Placed
from workers.tasks.limits import ArchiveLimits
from workers.tasks.thumbnails import COLUMNS, SIDE, ContactSheet

ZipOf = Callable[[dict[str, bytes]], Path]
ClassFiles = Callable[..., dict[str, bytes]]

COLORS = {"green": (0, 160, 0), "red": (200, 0, 0)}
MANY = 10**6


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def placed(*classes: str) -> list[Placed]:
    return [Placed(path=f"{name}/{n}.png", class_name=name, split=None) for n, name in enumerate(classes)]


def test_a_row_is_a_class_and_holds_its_examples(zip_of: ZipOf) -> None:
    files = {f"{name}/{n}.png": file_of(Image.new("RGB", (40, 20), COLORS[name])) for name in COLORS for n in range(6)}

    checked = check_archive(zip_of(files), ArchiveLimits())

    facts = checked.findings.thumbnails
    assert facts is not None
    assert checked.thumbnails is not None
    assert (facts.side, facts.columns, facts.classes) == (SIDE, COLUMNS, ("green", "red"))
    with Image.open(io.BytesIO(checked.thumbnails)) as sheet:
        assert (sheet.format, sheet.size) == ("JPEG", (COLUMNS * SIDE, 2 * SIDE))
        pixels = np.asarray(sheet).astype(int)
    for row, color in enumerate(COLORS.values()):
        for column in range(COLUMNS):
            square = pixels[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
            assert np.abs(square[SIDE // 2, SIDE // 2] - color).max() < 10
            assert square[4, SIDE // 2].min() > 245  # white: an image twice as wide as high keeps its aspect


def test_examples_lie_evenly_over_a_class() -> None:
    sheet = ContactSheet(placed(*["a"] * 100, *["b"] * 3))

    assert [position for position in range(103) if sheet.wants(position)] == [0, 25, 50, 75, 100, 101, 102]


def test_only_the_first_classes_have_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "MAX_ROWS", 2)
    sheet = ContactSheet(placed("c", "a", "b"))
    for position in (1, 2):
        sheet.add(position, Image.new("RGB", (SIDE, SIDE)))

    made = sheet.jpeg()

    assert not sheet.wants(0)
    assert made is not None
    assert made[0].classes == ("a", "b")


def test_a_picture_that_is_too_large_is_made_worse_and_then_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    sheet = ContactSheet(placed("a"))
    sheet.add(0, Image.fromarray(noise))
    best = sheet.jpeg()
    assert best is not None

    monkeypatch.setattr(thumbnails, "MAX_BYTES", len(best[1]) - 1)
    worse = sheet.jpeg()
    monkeypatch.setattr(thumbnails, "MAX_BYTES", 100)

    assert worse is not None
    assert len(worse[1]) < len(best[1])
    assert sheet.jpeg() is None


@pytest.mark.parametrize(
    "data",
    [
        *(file_of(Image.new(mode, (300, 20), 1)) for mode in ("1", "L", "P", "I;16")),
        *(file_of(Image.new(mode, (300, 20))) for mode in ("RGB", "RGBA", "LA")),
        *(file_of(Image.new(mode, (20, 300)), "TIFF") for mode in ("CMYK", "YCbCr", "I", "PA")),
        file_of(Image.new("RGB", (1, 3000))),
        file_of(Image.new("RGB", (1500, 600)), "JPEG", progressive=True),
        file_of(Image.new("L", (30, 20)), "GIF"),
    ],
)
def test_every_kind_of_image_has_a_small_one(data: bytes) -> None:
    facts, small = measure_and_shrink(data, SIDE, max_pixels=MANY)

    assert facts == measure_image(data, max_pixels=MANY)
    assert small is not None
    assert small.mode == "RGB"
    assert max(small.size) == SIDE


def test_an_image_whose_small_one_cannot_be_made_is_whole_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", out_of_memory)

    assert measure_and_shrink(file_of(Image.new("L", (9, 9))), SIDE, max_pixels=MANY) == (
        ImageFacts(width=9, height=9, mode="L"),
        None,
    )
