"""Lists in parts: newest first, continued by a cursor that says where the part before ended."""

import base64
import binascii
import json

from service.errors import InvalidRequestError


def encode_cursor(created_at: float, row_id: str) -> str:
    """Return the cursor of the part after this row; opaque to clients."""
    return base64.urlsafe_b64encode(json.dumps([created_at, row_id]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[float, str]:
    """Return the row that a cursor names.

    Raises:
        InvalidRequestError: It is no cursor of ours.
    """
    try:
        created_at, row_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return float(created_at), str(row_id)
    except (binascii.Error, ValueError, TypeError) as error:
        raise InvalidRequestError(
            "not a cursor", got=cursor[:100], expected="the next_cursor of the part before"
        ) from error
