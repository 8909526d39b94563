"""Archives that are no datasets, each made from a good one, and the reason that each is refused with."""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workers.contracts.errors import InvalidDatasetError
from workers.tasks.archive import check_archive
from workers.tasks.limits import ArchiveLimits

Builder = Callable[["Workshop"], bytes]


class Workshop:
    """What the builders below make archives of."""

    def __init__(self, png: Callable[..., bytes], class_files: Callable[..., dict[str, bytes]]) -> None:
        self.png, self.class_files = png, class_files
        self.good = class_files("cat", "dog")

    def zip(self, extra: dict[str, bytes] | None = None, *, files: dict[str, bytes] | None = None) -> bytes:
        """A good archive (or `files`) with further members."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in {**(self.good if files is None else files), **(extra or {})}.items():
                archive.writestr(name, data)
        return buffer.getvalue()

    def zip_with(self, info: zipfile.ZipInfo, data: bytes = b"x") -> bytes:
        """A good archive with one member of a special kind."""
        buffer = io.BytesIO(self.zip())
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr(info, data)
        return buffer.getvalue()


def member(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.create_system = 3
    return info


def patched(data: bytes, name: str, *, offset: int, value: bytes) -> bytes:
    """Change bytes of one member's entry in the central directory; offsets as in the zip specification, 4.3.12."""
    at = data.index(b"PK\x01\x02")
    while data[at + 46 : at + 46 + len(name)] != name.encode():
        at = data.index(b"PK\x01\x02", at + 1)
    return data[: at + offset] + value + data[at + offset + len(value) :]


def overlapping(shop: Workshop) -> bytes:
    """Two entries of the directory that point to the same packed bytes."""
    data = shop.zip()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        target = archive.getinfo("cat/0.png").header_offset
    return patched(data, "cat/1.png", offset=42, value=struct.pack("<I", target))


def compressed_zeros(shop: Workshop) -> bytes:
    buffer = io.BytesIO(shop.zip())
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/bomb.bmp", bytes(2_500_000))
    return buffer.getvalue()


def huge_png(shop: Workshop) -> bytes:
    """A PNG whose header promises 50,000 x 50,000 pixels."""
    data = bytearray(shop.png())
    data[16:24] = struct.pack(">II", 50_000, 50_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def wide_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (500, 100)).save(buffer, "PNG")
    return buffer.getvalue()


def with_bad_local_name(data: bytes) -> bytes:
    """One member whose own header says that its name is UTF-8, which it is not; the directory is sound."""
    at = data.index(b"cat/1.png")
    return data[: at - 24] + b"\x00\x08" + data[at - 22 : at] + b"cat/\xff.png" + data[at + 9 :]


def with_bytes(shop: Workshop, broken: bytes) -> bytes:
    return shop.zip({"dog/broken.png": broken})


MALFORMED: dict[str, tuple[Builder, str]] = {
    "empty file": (lambda shop: b"", "the file is empty"),
    "text": (lambda shop: b"these are my images", "not a zip archive"),
    "an image": (lambda shop: shop.png(), "not a zip archive"),
    "a tar archive": (lambda shop: b"cat/1.png" + bytes(1015), "not a zip archive"),
    "cut off": (lambda shop: shop.zip()[:-200], "cut off or damaged"),
    "cut in half": (lambda shop: shop.zip()[: len(shop.zip()) // 2], "cut off or damaged"),
    "directory damaged": (lambda shop: shop.zip().replace(b"PK\x01\x02", b"PK\x07\x07", 1), "cut off or damaged"),
    "no entries": (lambda shop: shop.zip(files={}), "the archive is empty"),
    "no images": (lambda shop: shop.zip(files={"a/readme.txt": b"hello", "b/data.csv": b"1,2"}), "holds no images"),
    "too large": (lambda shop: shop.zip({"cat/raw.bin": bytes(4_500_000)}), "the archive is too large.*4000000"),
    "too many entries": (lambda shop: shop.zip({f"n/{i}.txt": b"" for i in range(60)}), "too many entries.*72.*60"),
    "encrypted": (
        lambda shop: patched(shop.zip(), "cat/1.png", offset=8, value=b"\x01\x00"),
        r"cat/1\.png is encrypted",
    ),
    "climbing name": (lambda shop: shop.zip({"../evil.png": b"x"}), r"climbs out.*'\.\./evil\.png'"),
    "climbing within": (lambda shop: shop.zip({"cat/../../evil.png": b"x"}), "climbs out"),
    "climbing in ignored folder": (lambda shop: shop.zip({"__MACOSX/../../x.png": b"x"}), "climbs out"),
    "absolute name": (lambda shop: shop.zip({"/etc/evil.png": b"x"}), "is absolute"),
    "drive letter": (lambda shop: shop.zip({"C:/evil.png": b"x"}), "drive letter"),
    "backslash": (lambda shop: shop.zip({"cat\\evil.png": b"x"}), "backslash"),
    "network path": (lambda shop: shop.zip({"\\\\host\\evil.png": b"x"}), "backslash"),
    "zero in name": (lambda shop: shop.zip({"cat/evilX.png": b"x"}).replace(b"evilX", b"evil\0"), "control character"),
    "newline in name": (lambda shop: shop.zip({"cat/evil\n.png": b"x"}), "control character"),
    "empty part": (lambda shop: shop.zip({"cat//1.png": b"x"}), "empty part"),
    "endless name": (lambda shop: shop.zip({"cat/" + "a" * 2000 + ".png": b"x"}), "is too long"),
    "symbolic link": (
        lambda shop: shop.zip_with(member("cat/link.png", stat.S_IFLNK | 0o777)),
        "symbolic link: cat/link",
    ),
    "device": (lambda shop: shop.zip_with(member("cat/null.png", stat.S_IFCHR | 0o666)), "special file: cat/null"),
    "pipe": (lambda shop: shop.zip_with(member("cat/pipe", stat.S_IFIFO | 0o666)), "special file: cat/pipe"),
    "unusual packing": (
        lambda shop: patched(shop.zip(), "cat/1.png", offset=10, value=struct.pack("<H", 12)),
        r"cat/1\.png is packed by an unusual method.*method 12",
    ),
    "nested zip": (lambda shop: shop.zip({"more.zip": shop.zip()}), r"holds another archive: more\.zip"),
    "nested tar": (lambda shop: shop.zip({"cat/more.tar.gz": b"x"}), r"another archive: cat/more\.tar\.gz"),
    "two files of one name": (
        lambda shop: shop.zip({"cat/X.png": b"x"}).replace(b"cat/X.png", b"cat/1.png"),
        r"two files of one name: cat/1\.png",
    ),
    "overlapping files": (overlapping, r"overlap: cat/[01]\.png"),
    "bomb by ratio": (compressed_zeros, r"cat/bomb\.bmp unpacks suspiciously"),
    "bomb by size of a file": (
        lambda shop: patched(shop.zip(), "cat/1.png", offset=24, value=struct.pack("<I", 3_500_000)),
        r"cat/1\.png is too large.*3500000",
    ),
    "bomb by size of all": (
        lambda shop: patched(
            patched(
                patched(shop.zip(), "cat/1.png", offset=20, value=struct.pack("<II", 2_900_000, 2_900_000)),
                *("cat/2.png",),
                offset=20,
                value=struct.pack("<II", 2_900_000, 2_900_000),
            ),
            *("cat/3.png",),
            offset=20,
            value=struct.pack("<II", 2_900_000, 2_900_000),
        ),
        "unpacks to too much.*6000000",
    ),
    "bomb of pixels": (lambda shop: with_bytes(shop, huge_png(shop)), r"dog/broken\.png is too large.*pixels"),
    "too many pixels": (lambda shop: with_bytes(shop, wide_png()), r"dog/broken\.png is too large.*500 x 100 pixels"),
    "one class": (lambda shop: shop.zip(files=shop.class_files("cat")), "too few classes.*'cat'"),
    "one class in a wrapper": (lambda shop: shop.zip(files=shop.class_files("data/cat")), "too few classes"),
    "one class in train": (lambda shop: shop.zip(files=shop.class_files("train/cat", "test/cat")), "too few classes"),
    "too many classes": (
        lambda shop: shop.zip(files=shop.class_files(*"abcdefghi", each=5)),
        "too many classes: got 9",
    ),
    "a small class": (
        lambda shop: shop.zip(files=shop.class_files("cat") | shop.class_files("dog", each=4)),
        "the class dog has too few usable images: got 4; expected at least 5",
    ),
    "a class small in train": (
        lambda shop: shop.zip(files=shop.class_files("train/cat", "test/dog") | shop.class_files("train/dog", each=2)),
        "the class dog has too few usable images in train: got 2",
    ),
    "a class absent from train": (
        lambda shop: shop.zip(files=shop.class_files("train/cat", "train/dog", "test/cow")),
        r"the class cow has images in test but none in train \(test/cow/0\.png\)",
    ),
    "no train folder": (lambda shop: shop.zip(files=shop.class_files("val/a", "test/a")), "no train folder"),
    "loose images": (lambda shop: shop.zip({"logo.png": shop.png()}), r"logo\.png lies outside of any class folder"),
    "images too deep": (lambda shop: shop.zip({"cat/old/1.png": shop.png()}), r"cat/old/1\.png lies deeper"),
    "text named png": (lambda shop: with_bytes(shop, b"no image"), r"dog/broken\.png \(not an image of a known kind\)"),
    "empty image": (lambda shop: with_bytes(shop, b""), r"cannot be read: dog/broken\.png"),
    "truncated png": (lambda shop: with_bytes(shop, shop.png(side=64)[:-3000]), r"cannot be read: dog/broken\.png"),
    "truncated jpeg": (
        lambda shop: with_bytes(shop, shop.png(side=64, format="JPEG")[:-500]),
        r"cannot be read: dog/broken\.png \(.*truncated",
    ),
    "a kind of image not accepted": (
        lambda shop: with_bytes(shop, shop.png(side=16, format="ICO")),
        r"dog/broken\.png \(not an image of a known kind\)",
    ),
    "damaged bytes": (
        lambda shop: shop.zip().replace(shop.good["cat/1.png"], bytes(len(shop.good["cat/1.png"]))),
        r"cannot be read: cat/1\.png \(Bad CRC",
    ),
    "local name that is no text": (
        lambda shop: with_bad_local_name(shop.zip()),
        r"cannot be read: cat/1\.png \(.*utf-8",
    ),
    "header unlike directory": (
        lambda shop: shop.zip().replace(b"cat/1.png", b"cat/9.png", 1),
        r"cannot be read: cat/1\.png",
    ),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_archive_is_refused_with_its_reason(
    kind: str,
    png: Callable[..., bytes],
    class_files: Callable[..., dict[str, bytes]],
    limits: ArchiveLimits,
    tmp_path: Path,
) -> None:
    build, reason = MALFORMED[kind]
    path = tmp_path / "archive.zip"
    path.write_bytes(build(Workshop(png, class_files)))

    with pytest.raises(InvalidDatasetError, match=reason) as caught:
        check_archive(path, limits)

    assert type(caught.value) is InvalidDatasetError
    assert caught.value.todo


def test_the_archive_that_all_of_these_are_made_from_is_accepted(
    png: Callable[..., bytes], class_files: Callable[..., dict[str, bytes]], limits: ArchiveLimits, tmp_path: Path
) -> None:
    (tmp_path / "archive.zip").write_bytes(Workshop(png, class_files).zip())

    assert check_archive(tmp_path / "archive.zip", limits).report.classes == ("cat", "dog")


def test_damage_anywhere_is_refused_or_survived_and_never_another_error(
    png: Callable[..., bytes], class_files: Callable[..., dict[str, bytes]], limits: ArchiveLimits, tmp_path: Path
) -> None:
    good = Workshop(png, class_files).zip()
    directory = good.index(b"PK\x01\x02")
    random = np.random.default_rng(0)
    num_refused = 0
    for _ in range(300):
        data = bytearray(good[: random.integers(1, len(good))] if random.random() < 0.2 else good)
        first = 0 if random.random() < 0.5 else min(directory, len(data) - 1)
        for place in random.integers(first, len(data), random.integers(1, 6)):
            data[place] = random.integers(0, 256)
        (tmp_path / "archive.zip").write_bytes(data)
        try:
            check_archive(tmp_path / "archive.zip", limits)
        except InvalidDatasetError:
            num_refused += 1
    assert num_refused > 100
