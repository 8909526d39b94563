"""What housekeeping has to know of rows, as immutable values."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """A dataset's row: its state, and since when it has it; None: since before that was noted."""

    state: str
    changed_at: float | None


@dataclass(frozen=True, kw_only=True)
class WorkFacts:
    """The row of an adaptation or a meta-run.

    Attributes:
        attempt: The last one.
        ended: Whether no job of it runs or waits.
        finished_at: When it ended.
    """

    state: str
    attempt: int
    ended: bool
    finished_at: float | None


PriorFacts = Literal["kept", "deleted"]
"""Kept: it has a row, or an unfinished meta-run will give it one."""


@dataclass(frozen=True, kw_only=True)
class Remains:
    """What may still lie in the store of a dataset that was deleted or refused.

    Attributes:
        sha256: Of its archive, if that was checked.
        upload_id: What the store calls its upload in parts, if it arrived so.
    """

    dataset_id: str
    owner: str
    sha256: str | None
    upload_id: str | None
