"""What `/v1/adaptations` and `/v1/search-spaces` take and return."""

from datetime import datetime
from typing import Literal

from service.schemas.common import ArtifactView, Name, Page, Priority, Problem
from workers.contracts.adaptations import AdaptationRequest, Candidate, Progress
from workers.contracts.artifacts import CostReport, Interval
from workers.contracts.base import Contract

AdaptationState = Literal["QUEUED", "RUNNING", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"]


ACTIVE_STATES: frozenset[AdaptationState] = frozenset({"RUNNING", "CANCELLING"})


FINAL_STATES: frozenset[AdaptationState] = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})


class Result(Contract):
    """The outcome of a successful adaptation; every number comes from its `metrics.json`.

    Attributes:
        architecture: The chosen architecture in the form of the literature, as in `architecture.json`.
    """

    architecture: dict[str, object]
    accuracy: float
    accuracy_interval: Interval
    num_test: int
    cost: CostReport
    timings_s: dict[str, float]
    verdict: str
    budget_note: str = ""


class Links(Contract):
    """Where to look further.

    Attributes:
        dashboard: Page of the current attempt's job in the Ray dashboard, once there is one.
        job_id: What Ray knows that job by.
        log: Path of what it has printed.
        actors: Path of the list of its actors.
    """

    self: str
    artifacts: str
    dashboard: str | None = None
    job_id: str | None = None
    log: str | None = None
    actors: str | None = None


class AdaptationForm(AdaptationRequest):
    """What a request for an adaptation may say: what its jobs are told, and what only the queue heeds."""

    name: Name | None = None
    priority: Priority = 0

    def told(self) -> AdaptationRequest:
        """Return what its jobs are told."""
        return AdaptationRequest.model_validate(self.model_dump(exclude={"priority"}))


class AdaptationView(Contract):
    """One adaptation as it stands now.

    Attributes:
        position: How many are served before, while it waits.
    """

    id: str
    state: AdaptationState
    attempt: int
    request: AdaptationRequest
    priority: int = 0
    position: int | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress | None = None
    best: Candidate | None = None
    result: Result | None = None
    error: Problem | None = None
    artifacts: tuple[ArtifactView, ...] = ()
    links: Links


class AdaptationPage(Page):
    """Adaptations, newest first."""

    items: tuple[AdaptationView, ...]


class SpaceView(Contract):
    """A search space: what is decided, and among which options.

    Attributes:
        published: The architecture that is trained where there is no prior, in the space's string form.
            None: the service is older than that.
    """

    name: str
    title: str
    decisions: tuple[tuple[str, tuple[str, ...]], ...]
    num_architectures: float
    published: str | None = None
    default_prior: str | None = None
