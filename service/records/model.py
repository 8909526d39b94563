"""What the records hold, as immutable values."""

from dataclasses import dataclass
from datetime import UTC, datetime

from service.schemas import AdaptationState, MetaResult, MetaRunState, Problem, Result
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.artifacts import Artifact
from workers.contracts.datasets import DatasetFindings, DatasetReport
from workers.contracts.meta_runs import MetaDataset, MetaRunRequest

LOCAL_OWNER = "local"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset that was checked and can be used: READY.

    Attributes:
        findings: What to know of it; None: it was checked by a version that did not look.
        source: Where it was copied from.
        meta_use: Whether meta-runs may learn from it.
        terms: Under which its images stand.
    """

    id: str
    owner: str
    name: str
    sha256: str
    num_bytes: int
    report: DatasetReport
    findings: DatasetFindings | None = None
    source: str | None = None
    created_at: datetime
    meta_use: bool
    terms: str


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """One adaptation.

    Attributes:
        attempt: The current one, from 1; whatever an earlier one still writes no longer counts.
        request: As asked, with `dataset_id` and `prior` resolved.
        spent_s: Seconds of the budget that earlier attempts used.
        num_failures: Attempts whose job ended by itself without leaving an outcome.
        priority: What waits is served by priority, the largest first, then in the order of its arrival.
    """

    id: str
    owner: str
    attempt: int
    state: AdaptationState
    request: AdaptationRequest
    dataset_id: str
    dataset_sha256: str
    spent_s: float
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    num_failures: int = 0
    priority: int = 0
    error: Problem | None = None
    result: Result | None = None
    artifacts: tuple[Artifact, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MetaRun:
    """One meta-run.

    Attributes:
        attempt: The current one, from 1; whatever an earlier one still writes no longer counts.
        request: As asked.
        datasets: Those of the request, resolved.
        prior_id: Name of the prior that it makes.
        spent_s: Seconds of learning in earlier attempts; once it has settled, in all.
        priority: What waits is served by priority, the largest first, then in the order of its arrival.
        asked_at: When the stop or the cancel was asked for that is or was under way.
    """

    id: str
    owner: str
    attempt: int
    state: MetaRunState
    request: MetaRunRequest
    datasets: tuple[MetaDataset, ...]
    prior_id: str
    spent_s: float
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    asked_at: datetime | None = None
    priority: int = 0
    error: Problem | None = None
    result: MetaResult | None = None
    artifacts: tuple[Artifact, ...] = ()


def moment(seconds: float) -> datetime:
    """Return seconds since the epoch as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
