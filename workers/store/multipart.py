"""Objects that arrive in parts: how large the parts are, and when they make the whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from search_spaces.errors import InvalidOptionError

PART_BYTES: Final = 16 << 20
"""Of all but very large objects."""

MAX_PARTS: Final = 9_000
"""S3 takes 10,000 parts, of at least 5 MiB each but for the last."""

MAX_NAMED: Final = 10


@dataclass(frozen=True, kw_only=True)
class MultipartUpload:
    """An object that is expected.

    Attributes:
        id: What the store calls it.
        part_bytes: Size of every part but the last, which holds the rest.
    """

    id: str
    part_bytes: int


@dataclass(frozen=True, kw_only=True)
class StoredPart:
    """One part that has arrived: its number, from 1 on, and its size."""

    number: int
    num_bytes: int


def part_bytes_of(num_bytes: int) -> int:
    """Return the size, in bytes, of every part but the last of an object.

    Raises:
        InvalidOptionError: An object of that size has no parts.
    """
    if num_bytes < 1:
        raise InvalidOptionError("an upload in parts", got=f"{num_bytes} bytes", expected="at least 1 byte")
    return max(PART_BYTES, -(-num_bytes // MAX_PARTS))


def check_number(number: int) -> int:
    """Return `number` if a part may have it.

    Raises:
        InvalidOptionError: It may not.
    """
    if not 1 <= number <= MAX_PARTS:
        raise InvalidOptionError("the number of a part", got=number, expected=f"1 to {MAX_PARTS}")
    return number


def check_whole(parts: Sequence[StoredPart], num_bytes: int) -> None:
    """Return if these are all parts of an object, each of its size.

    Args:
        parts: In the order of their numbers.
        num_bytes: Size of the object.

    Raises:
        InvalidOptionError: A part is missing, too many, or of another size.
    """
    part_bytes = part_bytes_of(num_bytes)
    expected = _expected(num_bytes)
    num_parts = len(expected)
    found = {part.number: part.num_bytes for part in parts}
    wrong = sorted(number for number in expected | found if expected.get(number) != found.get(number))
    if wrong:
        named = ", ".join(map(str, wrong[:MAX_NAMED])) + (", ..." if len(wrong) > MAX_NAMED else "")
        raise InvalidOptionError(
            f"the upload is not whole, {len(wrong)} of its parts missing or of another size",
            got=f"numbers {named}",
            expected=f"{num_parts} parts of {part_bytes} bytes, the last of {expected[num_parts]}",
            todo="Send these parts and complete it again, or abort it and begin another.",
        )


def exceed(parts: Sequence[StoredPart], num_bytes: int) -> bool:
    """Return whether a part of an object has more bytes than it should, or should not be there."""
    expected = _expected(num_bytes)
    return any(part.num_bytes > expected.get(part.number, -1) for part in parts)


def _expected(num_bytes: int) -> dict[int, int]:
    """Return the sizes of an object's parts, by their numbers."""
    part_bytes = part_bytes_of(num_bytes)
    num_parts = -(-num_bytes // part_bytes)
    expected = dict.fromkeys(range(1, num_parts), part_bytes)
    expected[num_parts] = num_bytes - (num_parts - 1) * part_bytes
    return expected
