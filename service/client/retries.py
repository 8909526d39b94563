"""When a call is tried again, after how long, and what makes that safe."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from search_spaces.errors import InvalidOptionError

RETRIED_STATUSES = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Bounded retries with a doubling delay, for calls that may safely be made twice.

    Attributes:
        num_tries: Tries in all, the first included.
        first_delay_s: Seconds before the second try; each later delay is twice the one before.
        max_delay_s: Longest delay of ours, in seconds.
        max_retry_after_s: Longest wait that a `Retry-After` may ask for; a longer one ends the tries.
    """

    num_tries: int = 5
    first_delay_s: float = 0.25
    max_delay_s: float = 4.0
    max_retry_after_s: float = 60.0

    def __post_init__(self) -> None:
        if self.num_tries < 1:
            raise InvalidOptionError("num_tries is too small", got=self.num_tries, expected="at least 1")

    def delay_s(self, num_failures: int, retry_after_s: float | None = None) -> float | None:
        """Return the seconds to wait after `num_failures` (1 or more) failed tries, or None to give up.

        Args:
            num_failures: Tries that failed so far.
            retry_after_s: What the service asked for, if it did.
        """
        if num_failures >= self.num_tries:
            return None
        if retry_after_s is None:
            return float(min(self.first_delay_s * 2 ** (num_failures - 1), self.max_delay_s))
        return retry_after_s if retry_after_s <= self.max_retry_after_s else None


def idempotency_headers(key: str | None) -> Mapping[str, str]:
    """Return the headers by which the service knows a request that asks for something new when it comes again.

    Args:
        key: Of the request; None: a new one.
    """
    return {"Idempotency-Key": key or str(uuid.uuid4())}


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for (a number or a date), or None where it says nothing.

    Args:
        header: The header's value, or None where there is none.
        now: The time to count a date from; the present time if absent.
    """
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:  # RFC 9110 dates are in GMT; `-0000` parses as naive
        moment = moment.replace(tzinfo=UTC)
    return max((moment - (now or datetime.now(UTC))).total_seconds(), 0.0)
