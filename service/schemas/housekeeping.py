"""What `/v1/gc` takes and returns."""

from typing import Literal

from workers.contracts.base import Contract

Garbage = Literal["dataset", "upload", "attempt", "checkpoint", "prior", "orphan", "row"]


class GcForm(Contract):
    """Whether to remove what nobody needs any more, or only to say what that is."""

    apply: bool = False


class GcItem(Contract):
    """One thing that nobody needs any more.

    Attributes:
        what: Its prefix or key in the store, or the table and number of its rows.
        why: In words.
    """

    kind: Garbage
    what: str
    num_objects: int = 0
    num_bytes: int = 0
    why: str


class GcReport(Contract):
    """What a round of housekeeping has removed, or would remove.

    Attributes:
        items: The first of them.
        num_items: How many there are in all.
    """

    applied: bool
    items: tuple[GcItem, ...]
    num_items: int
    num_bytes: int
