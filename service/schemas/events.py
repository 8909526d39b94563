"""What is told of datasets, adaptations and meta-runs as it happens."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from workers.contracts.base import Contract

EventKind = Literal[
    "dataset.ready",
    "dataset.rejected",
    "dataset.deleted",
    "adaptation.queued",
    "adaptation.running",
    "adaptation.cancelling",
    "adaptation.succeeded",
    "adaptation.failed",
    "adaptation.cancelled",
    "meta_run.queued",
    "meta_run.running",
    "meta_run.stopping",
    "meta_run.stopped",
    "meta_run.cancelling",
    "meta_run.succeeded",
    "meta_run.failed",
    "meta_run.cancelled",
    "webhook.test",
]


class EventView(Contract):
    """Something that became of a dataset, an adaptation or a meta-run.

    Attributes:
        work_id: Of what it became of.
        sequence: From 1, without gaps, for each `work_id`.
        kind: One of `EventKind`; a service of a newer version may have told others.
        data: What the kind says more, such as the attempt or the code of an error.
    """

    work_id: str
    sequence: int
    kind: str
    at: datetime
    data: dict[str, object] = Field(default_factory=dict)


class EventPage(Contract):
    """Events of one thing, oldest first; `after=next_after` asks for what follows."""

    items: tuple[EventView, ...]
    next_after: int
