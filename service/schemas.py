"""What the HTTP API takes and returns."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from workers.contracts.adaptations import AdaptationRequest, Candidate, Progress
from workers.contracts.artifacts import Artifact, CostReport, Interval
from workers.contracts.base import Contract
from workers.contracts.datasets import DatasetFindings, DatasetReport
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

DatasetState = Literal["UPLOADING", "CHECKING", "READY", "REJECTED"]

MetaRunState = Literal["QUEUED", "RUNNING", "STOPPING", "STOPPED", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"]
ACTIVE_META_STATES: frozenset[MetaRunState] = frozenset({"RUNNING", "STOPPING", "CANCELLING"})
SETTLED_META_STATES: frozenset[MetaRunState] = frozenset({"STOPPED", "SUCCEEDED", "FAILED", "CANCELLED"})
"""No job runs in them; STOPPED and FAILED can be resumed."""

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
]

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


class UploadView(Contract):
    """How the parts of a dataset arrive.

    Attributes:
        part_bytes: Size of every part but the last, which holds the rest.
        num_parts: How many there are, numbered from 1 on.
        num_arrived: How many have arrived.
        parts: Path of the list of parts, which says where each is to be sent.
        complete: Path to POST to once all have arrived.
        expires_at: When what has not been completed is forgotten.
    """

    part_bytes: int
    num_parts: int
    num_arrived: int
    parts: str
    complete: str
    expires_at: datetime


class DatasetView(Contract):
    """A dataset as it stands now.

    Attributes:
        state: READY ones can be used. The others arrive, are being checked, or were refused for what `error` says.
        sha256: Of its archive, once that was checked.
        report: What the check found, once it has.
        findings: What to know before a network that has learned from it is trusted.
        thumbnails: Path of a picture of some of its images.
        source: Where it was copied from.
        upload: How its parts arrive, while they do.
        meta_use: Whether meta-runs may learn from it.
        terms: Under which its images stand, for the cards of priors that learn from it.
    """

    id: str
    name: str
    state: DatasetState = "READY"
    sha256: str | None = None
    num_bytes: int
    report: DatasetReport | None = None
    findings: DatasetFindings | None = None
    thumbnails: str | None = None
    source: str | None = None
    upload: UploadView | None = None
    error: Problem | None = None
    created_at: datetime
    meta_use: bool = False
    terms: str = "not stated"


class DatasetChange(Contract):
    """What may be changed of a dataset; what is absent stays."""

    meta_use: bool | None = None
    terms: str | None = Field(None, min_length=1, max_length=200)


class DatasetBegin(DatasetChange):
    """A dataset that will arrive in parts.

    Attributes:
        num_bytes: Of the zip.
        name: As people know it.
        sha256: Of the zip, in hexadecimal, where its sender knows it: another one is refused.
    """

    num_bytes: int = Field(ge=1, le=1 << 50)
    name: str | None = Field(None, max_length=200)
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")


class DatasetSource(DatasetChange):
    """A dataset that the service copies.

    Attributes:
        source: Of the zip, `s3://bucket/key`, below one of the prefixes that the service's operator allows.
        name: As people know it; the file's name if absent.
    """

    source: str = Field(min_length=6, max_length=1024)
    name: str | None = Field(None, max_length=200)


class UploadPart(Contract):
    """One part of a dataset that arrives.

    Attributes:
        href: Where to PUT its bytes: a path from the service's root, or a signed address of the object store, which
            needs no key and gets none.
        arrived: Whether it is there, whole.
    """

    number: int
    num_bytes: int
    href: str
    arrived: bool


class UploadPartPage(Contract):
    """Parts in the order of their numbers; `after=next_after` asks for those that follow, None: there are no more."""

    items: tuple[UploadPart, ...]
    next_after: int | None = None


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


class EventView(Contract):
    """Something that became of a dataset, an adaptation or a meta-run.

    Attributes:
        work_id: Of what it became of.
        sequence: From 1, without gaps, for each `work_id`.
        data: What the kind says more, such as the attempt or the code of an error.
    """

    work_id: str
    sequence: int
    kind: EventKind
    at: datetime
    data: dict[str, object] = Field(default_factory=dict)


class EventPage(Contract):
    """Events of one thing, oldest first; `after=next_after` asks for what follows."""

    items: tuple[EventView, ...]
    next_after: int


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
