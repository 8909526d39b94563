"""The `Range` header (RFC 9110, 14.2), for one range of bytes."""

import re
from dataclasses import dataclass
from typing import Final

from service.errors import RangeNotSatisfiableError

_ONE_RANGE: Final = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ByteRange:
    """A part of an object, at least one byte long."""

    start: int
    length: int


def parse_range(header: str | None, num_bytes: int) -> ByteRange | None:
    """Return the part that is asked for, or None where the whole is: no header, or one of a form that may be ignored.

    Args:
        header: The value of `Range`.
        num_bytes: Size of the whole.

    Raises:
        RangeNotSatisfiableError: The part holds no byte of the whole.
    """
    found = _ONE_RANGE.fullmatch(header or "")
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        length = min(int(last), num_bytes)
        start = num_bytes - length
    else:
        start = int(first)
        if last and int(last) < start:
            return None
        length = min(int(last) + 1 if last else num_bytes, num_bytes) - start
    if length <= 0:
        raise RangeNotSatisfiableError(
            "the range lies beyond the end", got=header, expected=f"within {num_bytes} bytes"
        )
    return ByteRange(start=start, length=length)
