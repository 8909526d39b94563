"""Lists in parts: newest first, continued by a cursor that says where the part before ended."""

import re
from typing import Final

from service.errors import InvalidRequestError

_CURSOR: Final = re.compile(r"([0-9]{1,12}\.[0-9]{1,20}):([a-z]{2}-[0-9a-f]{1,32})")


def encode_cursor(created_at: float, row_id: str) -> str:
    """Return the cursor of the part after this row; opaque to clients."""
    return f"{created_at!r}:{row_id}"


def decode_cursor(cursor: str) -> tuple[float, str]:
    """Return the row that a cursor names.

    Raises:
        InvalidRequestError: It is no cursor of ours.
    """
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidRequestError("not a cursor", got=cursor[:100], expected="the next_cursor of the part before")
    return float(found[1]), found[2]
