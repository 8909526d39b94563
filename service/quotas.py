"""What an owner may have at once, and the refusal of more."""

from dataclasses import dataclass
from typing import Final

from service.errors import QuotaExceededError

WORK_RETRY_S: Final = 30.0
"""Work ends by itself, so it is worth asking again."""
BYTES_RETRY_S: Final = 3600.0
"""Bytes do not go by themselves."""


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """Bounds for one owner; None: no bound.

    Attributes:
        max_bytes: Of its datasets together.
        max_unfinished: Adaptations and meta-runs that run or wait.
        max_arriving: Datasets that arrive in parts, are copied, or wait for their check.
    """

    max_bytes: int | None = None
    max_unfinished: int | None = None
    max_arriving: int | None = None


UNLIMITED: Final = Quotas()


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What an owner has, or asks for: what `Quotas` bound."""

    num_bytes: int = 0
    num_unfinished: int = 0
    num_arriving: int = 0


def check(quotas: Quotas, usage: Usage, more: Usage) -> None:
    """Refuse what would go beyond a quota. What is not asked for is not counted: a full store still takes work.

    Args:
        quotas: Of the owner.
        usage: What it has.
        more: What it asks for.

    Raises:
        QuotaExceededError: Says which quota, and when to ask again.
    """
    if more.num_bytes and quotas.max_bytes is not None and usage.num_bytes + more.num_bytes > quotas.max_bytes:
        raise QuotaExceededError(
            "the quota of stored bytes is used up",
            got=f"{usage.num_bytes} bytes stored and {more.num_bytes} more",
            expected=f"at most {quotas.max_bytes} bytes of datasets",
            todo="Send a smaller dataset, or ask the operator for more.",
            retry_after_s=BYTES_RETRY_S,
        )
    bound = quotas.max_unfinished
    if more.num_unfinished and bound is not None and usage.num_unfinished + more.num_unfinished > bound:
        raise QuotaExceededError(
            "the quota of unfinished work is used up",
            got=f"{usage.num_unfinished} adaptations and meta-runs that run or wait",
            expected=f"at most {bound}",
            todo="Wait until some have ended, cancel some, or ask the operator for more.",
            retry_after_s=WORK_RETRY_S,
        )
    bound = quotas.max_arriving
    if more.num_arriving and bound is not None and usage.num_arriving + more.num_arriving > bound:
        raise QuotaExceededError(
            "the quota of datasets that arrive is used up",
            got=f"{usage.num_arriving} datasets that are UPLOADING or CHECKING",
            expected=f"at most {bound}",
            todo="Wait until some are checked, complete or delete some, or ask the operator for more.",
            retry_after_s=WORK_RETRY_S,
        )
