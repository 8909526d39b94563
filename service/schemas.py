"""What the HTTP API takes and returns."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from workers.contracts.adaptations import AdaptationRequest, Candidate, Progress
from workers.contracts.artifacts import Artifact, CostReport, Interval
from workers.contracts.base import Contract
from workers.contracts.datasets import DatasetReport

AdaptationState = Literal["QUEUED", "RUNNING", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"]
FINAL_STATES: frozenset[AdaptationState] = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})


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
    """A checked dataset."""

    id: str
    name: str
    sha256: str
    num_bytes: int
    report: DatasetReport
    created_at: datetime


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
    """Where to look further; `dashboard` and `log` point into the Ray dashboard once a job exists."""

    self: str
    artifacts: str
    dashboard: str | None = None
    job_id: str | None = None


class AdaptationView(Contract):
    """One adaptation as it stands now."""

    id: str
    state: AdaptationState
    attempt: int
    request: AdaptationRequest
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
