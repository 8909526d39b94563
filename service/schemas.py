"""What the HTTP API takes and returns."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from workers.contracts.adaptations import AdaptationRequest, Candidate, Progress
from workers.contracts.artifacts import Artifact, CostReport, Interval
from workers.contracts.base import Contract
from workers.contracts.datasets import DatasetReport
from workers.contracts.meta_runs import (
    Adjustment,
    Counters,
    DatasetChoice,
    MetaEvent,
    MetaProgress,
    MetaRunRequest,
    PriorScore,
)
from workers.contracts.priors import PriorCard

AdaptationState = Literal["QUEUED", "RUNNING", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"]
ACTIVE_STATES: frozenset[AdaptationState] = frozenset({"RUNNING", "CANCELLING"})
FINAL_STATES: frozenset[AdaptationState] = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})

MetaRunState = Literal["QUEUED", "RUNNING", "STOPPING", "STOPPED", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"]
ACTIVE_META_STATES: frozenset[MetaRunState] = frozenset({"RUNNING", "STOPPING", "CANCELLING"})
SETTLED_META_STATES: frozenset[MetaRunState] = frozenset({"STOPPED", "SUCCEEDED", "FAILED", "CANCELLED"})
"""No job runs in them; STOPPED and FAILED can be resumed."""

Priority = Annotated[
    int,
    Field(ge=-10, le=10, description="What waits goes by priority, the largest first, then in the order of arrival."),
]


class Problem(Contract):
    """The one error body (RFC 9457 problem details), with what to do about it.

    Attributes:
        code: Stable name of the kind of error, for programs.
        errors: Further findings, one a line: each refused file or field.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    code: str
    todo: str = ""
    errors: tuple[str, ...] = ()


class DatasetView(Contract):
    """A checked dataset.

    Attributes:
        meta_use: Whether meta-runs may learn from it.
        terms: Under which its images stand, for the cards of priors that learn from it.
    """

    id: str
    name: str
    sha256: str
    num_bytes: int
    report: DatasetReport
    created_at: datetime
    meta_use: bool = False
    terms: str = "not stated"


class DatasetChange(Contract):
    """What may be changed of a dataset; what is absent stays."""

    meta_use: bool | None = None
    terms: str | None = Field(None, min_length=1, max_length=200)


class ArtifactView(Artifact):
    """An artifact with the path to download it from, relative to the service's root."""

    href: str


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
    """Where to look further; `dashboard` points to the job in the Ray dashboard once there is one."""

    self: str
    artifacts: str
    dashboard: str | None = None
    job_id: str | None = None


class AdaptationForm(AdaptationRequest):
    """What a request for an adaptation may say: what its jobs are told, and what only the queue heeds."""

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


class Page(Contract):
    """A part of a list; `next_cursor`, where present, asks for the following part."""

    next_cursor: str | None = None


class AdaptationPage(Page):
    """Adaptations, newest first."""

    items: tuple[AdaptationView, ...]


class DatasetPage(Page):
    """Datasets, newest first."""

    items: tuple[DatasetView, ...]


class MetaResult(Contract):
    """The outcome of a meta-run; every number comes from its `metrics.json`.

    Attributes:
        prior_id: Of the prior that it made; None for a comparison.
        complete: Whether all steps were taken.
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
    """Where to look further; `dashboard` points to the job in the Ray dashboard once there is one."""

    self: str
    events: str
    artifacts: str
    prior: str | None = None
    dashboard: str | None = None
    job_id: str | None = None


class MetaRunForm(MetaRunRequest):
    """What a request for a meta-run may say: what its jobs are told, and what only the queue heeds."""

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

    priors: tuple[str, ...] = Field(min_length=2, max_length=20)
    datasets: tuple[DatasetChoice, ...] = Field(min_length=1, max_length=100)
    num_tasks: int = Field(20, ge=1, le=200)
    seed: int = Field(0, ge=0)


class PriorView(Contract):
    """A meta-prior: its card, and how it stands in this service.

    Attributes:
        default: Whether a request of its space that names no prior gets this one.
        files: What can be downloaded.
    """

    card: PriorCard
    bundled: bool
    default: bool
    files: tuple[ArtifactView, ...] = ()


class PriorPage(Page):
    """Meta-priors: the bundled ones first, then the oldest."""

    items: tuple[PriorView, ...]


class PromotionView(Contract):
    """One time that a prior was made the default of its space."""

    search_space: str
    prior_id: str
    promoted_at: datetime
    promoted_by: str


class SpaceView(Contract):
    """A search space: what is decided, and among which options."""

    name: str
    title: str
    decisions: tuple[tuple[str, tuple[str, ...]], ...]
    num_architectures: float
    default_prior: str | None = None


class Health(Contract):
    """`ok` with one line for each part the service needs (records, store, ray)."""

    ok: bool
    parts: dict[str, str] = Field(default_factory=dict)


class AuditEntry(Contract):
    """A request that asked for a change.

    Attributes:
        action: Operation id of the route; `none` where the path leads nowhere.
        status: HTTP status of the answer.
    """

    at: datetime
    owner: str
    key_id: str | None
    request_id: str
    action: str
    path: str
    status: int


class AuditPage(Contract):
    """A part of the audit log, newest first."""

    items: tuple[AuditEntry, ...]
    next_cursor: str | None = None
