"""When a message that was not taken is sent again. Pure."""

from datetime import UTC, datetime
from typing import Final

DELAYS_S: Final = (5.0, 60.0, 300.0, 1800.0, 2 * 3600.0, 8 * 3600.0, 24 * 3600.0)
"""Seconds before each further try: a receiver may be away for a day."""
MAX_TRIES: Final = len(DELAYS_S) + 1
MAX_ASKED_S: Final = max(DELAYS_S)
HTTP_DATE: Final = "%a, %d %b %Y %H:%M:%S GMT"


def asked_s(retry_after: str, *, now_s: float) -> float:
    """Return the seconds for which a receiver asks to be left alone: 0, where it does not, to `MAX_ASKED_S`.

    Args:
        retry_after: Its `Retry-After` header, seconds or a date; empty where it has sent none.
        now_s: Seconds since the epoch.
    """
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_ASKED_S)
    try:
        until = datetime.strptime(text, HTTP_DATE).replace(tzinfo=UTC)
    except ValueError:
        return 0.0
    return min(max(until.timestamp() - now_s, 0.0), MAX_ASKED_S)


def next_try_s(
    num_failures: int, *, asked_s: float, factor: float, delays_s: tuple[float, ...] = DELAYS_S
) -> float | None:
    """Return the seconds until a message is sent again; None: it is given up.

    Args:
        num_failures: Tries that failed, 1 or more.
        asked_s: For how long its receiver asks to be left alone: it comes no earlier.
        factor: By which our own delay is made longer or shorter.
        delays_s: Seconds before each further try.
    """
    if num_failures > len(delays_s):
        return None
    return max(delays_s[num_failures - 1] * factor, asked_s)
