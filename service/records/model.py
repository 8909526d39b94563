"""What the records hold, as immutable values."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from service.errors import DatasetNotReadyError
from service.schemas import AdaptationState, DatasetState, MetaResult, MetaRunState, Problem, Result
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.artifacts import Artifact
from workers.contracts.base import Contract
from workers.contracts.datasets import DatasetFindings, DatasetReport
from workers.contracts.meta_runs import MetaDataset, MetaRunRequest

LOCAL_OWNER = "local"

StoredDatasetState = Literal[DatasetState, "DELETING", "DELETED"]
"""Of a row: what is being deleted, or was, is shown to nobody."""

_NOT_READY: Final = {
    "UPLOADING": ("has not arrived yet", "Send its parts, then POST /v1/datasets/{id}/complete."),
    "CHECKING": ("is being checked", "Try again once GET /v1/datasets/{id} says READY."),
    "REJECTED": ("was refused", "GET /v1/datasets/{id} says why; send another."),
}


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


class Arrival(Contract):
    """How a dataset arrives that does not come with one request.

    Attributes:
        upload_id: What the store calls its upload in parts; None: it is copied.
        part_bytes: Size of every part but the last.
        name: That it was given, where it was, as are the other two: they also hold of the same bytes, sent before.
    """

    upload_id: str | None = None
    part_bytes: int | None = None
    name: str | None = None
    meta_use: bool | None = None
    terms: str | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """A dataset in whatever state it is.

    Attributes:
        sha256: Of its archive; like `report`, of those that are READY only.
        changed_at: When it came into its state; None: a version of the service recorded it that did not look.
        arrival: How it arrives, or has, before it was refused.
        declared_sha256: What its sender says its hash is.
        error: Why it is REJECTED, or why it is still CHECKING although that was tried.
        num_tries: Tries of its check that were begun and may have failed because of it.
        num_waits: All tries that ended without a verdict.
        owner, name, num_bytes, findings, source, created_at, meta_use, terms: As of `Dataset`.
    """

    id: str
    owner: str
    name: str
    state: DatasetState
    sha256: str | None = None
    num_bytes: int
    report: DatasetReport | None = None
    findings: DatasetFindings | None = None
    source: str | None = None
    created_at: datetime
    changed_at: datetime | None = None
    meta_use: bool
    terms: str
    arrival: Arrival | None = None
    declared_sha256: str | None = None
    error: Problem | None = None
    num_tries: int = 0
    num_waits: int = 0

    def ready(self) -> Dataset:
        """Return it as what can be used. Raises `DatasetNotReadyError`."""
        if self.state != "READY" or self.sha256 is None or self.report is None:
            what, todo = _NOT_READY[self.state]
            raise DatasetNotReadyError(f"the dataset {what}", got=self.id, todo=todo.format(id=self.id))
        return Dataset(
            id=self.id,
            owner=self.owner,
            name=self.name,
            sha256=self.sha256,
            num_bytes=self.num_bytes,
            report=self.report,
            findings=self.findings,
            source=self.source,
            created_at=self.created_at,
            meta_use=self.meta_use,
            terms=self.terms,
        )


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
        num_failures: Attempts whose job ended by itself without leaving an outcome, since the last new checkpoint.
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
    num_failures: int = 0
    priority: int = 0
    error: Problem | None = None
    result: MetaResult | None = None
    artifacts: tuple[Artifact, ...] = ()


def moment(seconds: float) -> datetime:
    """Return seconds since the epoch as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
