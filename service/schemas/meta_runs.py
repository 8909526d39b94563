"""What `/v1/meta-runs` takes and returns."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from service.schemas.common import ArtifactView, Name, Page, Priority, Problem
from workers.contracts.base import Contract
from workers.contracts.meta_runs import (
    Adjustment,
    Counters,
    DatasetChoice,
    MetaEvent,
    MetaProgress,
    MetaRunRequest,
    PriorName,
    PriorScore,
)

MetaRunState = Literal["QUEUED", "RUNNING", "STOPPING", "STOPPED", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"]


ACTIVE_META_STATES: frozenset[MetaRunState] = frozenset({"RUNNING", "STOPPING", "CANCELLING"})


SETTLED_META_STATES: frozenset[MetaRunState] = frozenset({"STOPPED", "SUCCEEDED", "FAILED", "CANCELLED"})
"""No job runs in them; STOPPED and FAILED can be resumed."""


class MetaResult(Contract):
    """The outcome of a meta-run; every number comes from its `metrics.json`.

    Attributes:
        prior_id: Of the prior that it made; None for a comparison.
        complete: Whether all steps were taken, and all trials made.
        scores: Of the priors that were judged on the same held-out tasks.
    """

    prior_id: str | None
    step: int
    complete: bool
    scores: tuple[PriorScore, ...] = ()
    counters: Counters
    adjustments: tuple[Adjustment, ...] = ()
    data_wait: float


class MetaRunLinks(Contract):
    """Where to look further.

    Attributes:
        prior: Path of the prior that it has made.
        dashboard: Page of the current attempt's job in the Ray dashboard, once there is one.
        job_id: What Ray knows that job by.
        log: Path of what it has printed.
        actors: Path of the list of its actors.
    """

    self: str
    events: str
    artifacts: str
    prior: str | None = None
    dashboard: str | None = None
    job_id: str | None = None
    log: str | None = None
    actors: str | None = None


class MetaRunForm(MetaRunRequest):
    """What a request for a meta-run may say: what its jobs are told, and what only the queue heeds."""

    name: Name | None = None
    priority: Priority = 0

    def told(self) -> MetaRunRequest:
        """Return what its jobs are told."""
        return MetaRunRequest.model_validate(self.model_dump(exclude={"priority"}))


class MetaRunView(Contract):
    """One meta-run as it stands now.

    Attributes:
        prior_id: Name of the prior that it makes.
        position: How many of its kind are served before, while it waits.
    """

    id: str
    state: MetaRunState
    attempt: int
    request: MetaRunRequest
    priority: int = 0
    position: int | None = None
    prior_id: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: MetaProgress | None = None
    result: MetaResult | None = None
    error: Problem | None = None
    artifacts: tuple[ArtifactView, ...] = ()
    links: MetaRunLinks


class MetaRunPage(Page):
    """Meta-runs, newest first."""

    items: tuple[MetaRunView, ...]


class MetaEventPage(Contract):
    """Events of a meta-run's current attempt, oldest first; `after=next_after` asks for what follows."""

    attempt: int
    items: tuple[MetaEvent, ...]
    next_after: int


class Comparison(Contract):
    """Which priors to judge on the same held-out tasks: see `MetaRunRequest`, of which this is the `compare` kind."""

    priors: tuple[PriorName, ...] = Field(min_length=2, max_length=20)
    datasets: tuple[DatasetChoice, ...] = Field(min_length=1, max_length=100)
    num_tasks: int = Field(20, ge=1, le=200)
    seed: int = Field(0, ge=0)
