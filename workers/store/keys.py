"""Which keys a store accepts: the same rules for every backend, so that objects can move between them."""

from typing import Final

from search_spaces.errors import InvalidOptionError

PARTIAL = ".partial"
MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255
FOREIGN: Final = "left out of the list of objects, as no object of ours is called so: %r"
"""Told of what others have put into the store."""


def check_key(key: str) -> str:
    """Return `key` if it names an object inside a store's root.

    Raises:
        InvalidOptionError: It is empty, absolute, climbs, is too long, or holds what a file system or S3 refuses.
    """
    reason = _objection(key)
    if reason:
        raise InvalidOptionError(
            f"unsafe store key ({reason})", got=key[:200], expected="a relative key such as datasets/abc/archive.zip"
        )
    return key


def is_key(key: str) -> bool:
    """Return whether `check_key` takes it."""
    return not _objection(key)


def check_prefix(prefix: str) -> str:
    """Return `prefix` if keys may begin with it; unlike a key it may be empty or end in a slash or in half a name.

    Raises:
        InvalidOptionError: No key could begin with it.
    """
    if prefix:
        check_key(f"{prefix}x" if prefix.endswith(("/", ".")) else prefix)
    return prefix


def _objection(key: str) -> str:
    segments = key.split("/")
    rules = {
        "empty": not key,
        "absolute": key.startswith("/"),
        "an empty part": "" in segments,
        "a part that climbs": not {".", ".."}.isdisjoint(segments),
        "a reserved name": segments[0] == PARTIAL,
        "a backslash": "\\" in key,
        "a control character": any(ord(character) < 32 or ord(character) == 127 for character in key),
        "not valid text": any(0xD800 <= ord(character) <= 0xDFFF for character in key),
    }
    broken = next((reason for reason, applies in rules.items() if applies), "")
    if broken:
        return broken
    if len(key.encode()) > MAX_KEY_BYTES or max(len(segment.encode()) for segment in segments) > MAX_SEGMENT_BYTES:
        return "too long"
    return ""
