"""Broken archives, each made from a good one by one damage with a name: every field of every header, and more.

Source: the layout of the records is that of the zip specification (APPNOTE 6.3.10, 4.3 and 4.4).
"""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from random import Random
from typing import Final

from PIL import Image

# Name, offset and bytes of each field after a record's signature.
Fields = tuple[tuple[str, int, int], ...]
LOCAL: Final[Fields] = (
    ("signature", 0, 4), ("version", 4, 2), ("flags", 6, 2), ("method", 8, 2), ("time", 10, 2), ("date", 12, 2),
    ("crc", 14, 4), ("compressed", 18, 4), ("size", 22, 4), ("name_length", 26, 2), ("extra_length", 28, 2),
)  # fmt: skip
CENTRAL: Final[Fields] = (
    ("signature", 0, 4), ("made_by", 4, 2), ("version", 6, 2), ("flags", 8, 2), ("method", 10, 2), ("time", 12, 2),
    ("date", 14, 2), ("crc", 16, 4), ("compressed", 20, 4), ("size", 24, 4), ("name_length", 28, 2),
    ("extra_length", 30, 2), ("comment_length", 32, 2), ("disk", 34, 2), ("internal", 36, 2), ("external", 38, 4),
    ("offset", 42, 4),
)  # fmt: skip
END: Final[Fields] = (
    ("signature", 0, 4), ("disk", 4, 2), ("central_disk", 6, 2), ("entries_here", 8, 2), ("entries", 10, 2),
    ("central_size", 12, 4), ("central_offset", 16, 4), ("comment_length", 20, 2),
)  # fmt: skip
END64: Final[Fields] = (
    ("signature", 0, 4), ("record_size", 4, 8), ("made_by", 12, 2), ("version", 14, 2), ("disk", 16, 4),
    ("central_disk", 20, 4), ("entries_here", 24, 8), ("entries", 32, 8), ("central_size", 40, 8),
    ("central_offset", 48, 8),
)  # fmt: skip
RECORDS: Final = {"local": (b"PK\x03\x04", LOCAL), "central": (b"PK\x01\x02", CENTRAL), "end": (b"PK\x05\x06", END)}
NAMES: Final = (
    "../cat/x.png", "/etc/x.png", "cat/../../x.png", "C:/x.png", "cat\\x.png", "\\\\host\\x.png", "cat//x.png",
    "./x.png", "", " ", ".", "..", "cat/", "cat/.hidden.png", "__MACOSX/cat/x.png", "cat/x.png/y.png", "x.png",
    "a/b/c/d/e/x.png", "cat/" + "n" * 255 + ".png", "c" * 300 + "/x.png", "cat/\u202egnp.x", "cat/e\u0301.png",
    "CAT/x.png", "cat/nul.png", "cat/x\n.png", "cat/x\r.png", "cat/\x7f.png", "train/x.png", "train/cat/x/y.png",
    "cat/x.svg", "cat/x.exe",
)  # fmt: skip
NUM_FLIPS: Final = 40
NUM_CUTS: Final = 24


def kinds(seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each broken archive; another seed damages other bytes.

    Some damage does no harm (the time of a file), and such an archive may be taken.
    """
    random, good = Random(seed), archive(files())
    yield from _fields(good, random)
    yield from _fields64(good, random)
    for name in NAMES:
        yield f"name {name[:40]!r}", archive({**files(), name: image()})
    yield "name twice", _twice(good)
    yield "name with a zero byte", good.replace(b"cat/1.png", b"cat/\x00.png")
    yield "name that is no UTF-8", good.replace(b"cat/1.png", b"cat/\xff.png")
    yield "a link", _special(good, 0o120777)
    yield "a device", _special(good, 0o060666)
    for number in range(NUM_CUTS):
        yield f"cut {number}", good[: len(good) * number // NUM_CUTS]
    for number in range(NUM_FLIPS):
        yield f"flip {number}", _flipped(good, random)
    for name, data in _images(random):
        yield f"image {name}", archive({**files(), "cat/x.png": data})
        yield f"only image {name}", archive({"cat/x.png": data, "dog/x.png": data})
    yield from _wholes(good, random)


def files() -> dict[str, bytes]:
    """Return the members of a good archive: two classes of six small images."""
    return {f"{name}/{number}.png": image(shade=40 * number) for name in ("cat", "dog") for number in range(6)}


def archive(members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip with these members."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as written:
        for name, content in members.items():
            written.writestr(zipfile.ZipInfo(name), content, compression)
    return data.getvalue()


def image(kind: str = "PNG", *, mode: str = "L", size: tuple[int, int] = (12, 12), shade: int = 90) -> bytes:
    """Return a small image of one shade."""
    data = io.BytesIO()
    Image.new(mode, size, shade).save(data, kind)
    return data.getvalue()


def _values(num_bytes: int, random: Random) -> dict[str, int]:
    most = 256**num_bytes - 1
    return {"zero": 0, "one": 1, "half": most // 2 + 1, "most": most, "some": random.randrange(2, most)}


def _fields(good: bytes, random: Random) -> Iterator[tuple[str, bytes]]:
    for record, (signature, fields) in RECORDS.items():
        at = good.index(signature)
        for name, offset, num_bytes in fields:
            for value, number in _values(num_bytes, random).items():
                yield f"{record} {name} {value}", _replaced(good, at + offset, number.to_bytes(num_bytes, "little"))


def _fields64(good: bytes, random: Random) -> Iterator[tuple[str, bytes]]:
    """Archives whose end says that the numbers are in a 64-bit record before it, and what that record says."""
    at = good.index(b"PK\x05\x06")
    entries, size, offset = struct.unpack("<HLL", good[at + 10 : at + 20])
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, size, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    end = good[at : at + 8] + b"\xff" * 12 + b"\0\0"
    yield "end64 good", good[:at] + record + locator + end
    yield "end64 without its locator", good[:at] + record + end
    yield "end64 without its record", good[:at] + locator + end
    for name, place, num_bytes in END64:
        for value, number in _values(num_bytes, random).items():
            broken = _replaced(record, place, number.to_bytes(num_bytes, "little"))
            yield f"end64 {name} {value}", good[:at] + broken + locator + end
    for value, number in _values(8, random).items():
        yield f"locator offset {value}", good[:at] + record + _replaced(locator, 8, number.to_bytes(8, "little")) + end


def _images(random: Random) -> Iterator[tuple[str, bytes]]:
    png = image()
    yield "empty", b""
    yield "text", b"this is no image"
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'
    yield "a zip", archive(files())
    for kind in ("JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        data = image(kind)
        yield f"{kind} under another name", data
        yield f"{kind} cut", data[: len(data) // 2]
        yield f"{kind} flipped", _flipped(data, random)
    for place in (8, 16, 20, 24, 28, 33, 41, len(png) - 12):
        yield f"PNG cut at {place}", png[:place]
        yield f"PNG damaged at {place}", _replaced(png, place, b"\xff\xff\xff\xff")
    for sides in ((0, 0), (1, 0), (65_535, 65_535), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1)):
        yield f"PNG of {sides[0]} x {sides[1]}", _png(*sides)
    for depth, color in ((0, 0), (16, 3), (3, 2), (8, 7), (255, 255)):
        yield f"PNG of depth {depth}, color {color}", _png(12, 12, depth=depth, color=color)
    yield "PNG that unpacks to much more", _png(12, 12, data=zlib.compress(bytes(50_000_000)))


def _png(width: int, height: int, *, depth: int = 8, color: int = 0, data: bytes | None = None) -> bytes:
    header = struct.pack(">2L5B", width, height, depth, color, 0, 0, 0)
    content = zlib.compress(bytes(13 * 12)) if data is None else data
    chunks = ((b"IHDR", header), (b"IDAT", content), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body)) for name, body in chunks
    )


def _wholes(good: bytes, random: Random) -> Iterator[tuple[str, bytes]]:
    deflated = archive(files(), compression=zipfile.ZIP_DEFLATED)
    yield "nothing", b""
    yield "an end only", b"PK\x05\x06" + bytes(18)
    yield "an end with a long comment", good[:-2] + b"\xff\xff" + bytes(65_535)
    yield "noise", random.randbytes(4096)
    yield "noise before", random.randbytes(999) + good
    yield "noise after", good + random.randbytes(999)
    yield "one after the other", good + archive({"dog/7.png": image()})
    yield "a gzip", gzip.compress(good, mtime=0)
    yield "a bzip2", bz2.compress(good)
    yield "an xz", lzma.compress(good)
    yield "a tar", _tar()
    yield "no class", archive({})
    yield "one class", archive({"cat/1.png": image(), "cat/2.png": image(shade=1)})
    yield "one image for each class", archive({"cat/1.png": image(), "dog/1.png": image(shade=1)})
    yield "many classes", archive({f"c{number}/1.png": image() for number in range(3000)})
    yield "an archive within", archive({**files(), "cat/more.zip": good})
    yield "much from little", archive({**files(), "cat/x.png": bytes(60_000_000)}, compression=zipfile.ZIP_DEFLATED)
    for number in range(12):
        yield f"deflated, flip {number}", _flipped(deflated, random)
    for method in (1, 6, 8, 9, 12, 14, 93, 95, 98, 99, 65_535):
        broken = good
        for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
            broken = _replaced(broken, broken.index(signature) + place, method.to_bytes(2, "little"))
        yield f"method {method} in both records", broken


def _twice(good: bytes) -> bytes:
    return good.replace(b"cat/1.png", b"cat/0.png")


def _special(good: bytes, mode: int) -> bytes:
    return _replaced(good, good.index(b"PK\x01\x02") + 38, (mode << 16).to_bytes(4, "little"))


def _tar() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as written:
        for name, content in files().items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            written.addfile(info, io.BytesIO(content))
    return data.getvalue()


def _flipped(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data))
    return _replaced(data, at, bytes([data[at] ^ (1 << random.randrange(8))]))


def _replaced(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]
