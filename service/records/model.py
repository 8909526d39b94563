"""What the records hold, as immutable values."""

from dataclasses import dataclass
from datetime import UTC, datetime

from service.schemas import AdaptationState, Problem, Result
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.artifacts import Artifact
from workers.contracts.datasets import DatasetReport

LOCAL_OWNER = "local"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A checked dataset."""

    id: str
    owner: str
    name: str
    sha256: str
    num_bytes: int
    report: DatasetReport
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """One adaptation.

    Attributes:
        attempt: The current one, from 1; whatever an earlier one still writes no longer counts.
        request: As asked, with `dataset_id` and `prior` resolved.
        spent_s: Seconds of the budget that earlier attempts used.
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
    error: Problem | None = None
    result: Result | None = None
    artifacts: tuple[Artifact, ...] = ()


def moment(seconds: float) -> datetime:
    """Return seconds since the epoch as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
