"""Jobs on a Ray cluster, through the REST interface of its dashboard: no driver lives in the web process.

`ray.job_submission.JobSubmissionClient` speaks the same interface, but without timeouts, and tells a missing job from a
failing cluster by the text of an exception only.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Final, Protocol

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from service.errors import ClusterUnavailableError
from service.ray.http import RayHttp, checked
from service.ray.observer import RayObserver, living_nodes

# The question costs a small cluster 30 ms of CPU, and is asked at every look at what waits.
CAPACITY_AGE_S: Final = 5.0


class JobStatus(StrEnum):
    """What the cluster knows of a job. UNKNOWN: it could not be asked."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    MISSING = "MISSING"
    UNKNOWN = "UNKNOWN"


ALIVE: Final = frozenset({JobStatus.PENDING, JobStatus.RUNNING})


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """A job's status, and what the cluster says of it in words (which nothing may depend on)."""

    status: JobStatus
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class LivingJob:
    """A job that waits or runs, with what it was submitted with."""

    submission_id: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Capacity:
    """What all nodes of a cluster have together, in use or not: whole CPUs and GPUs."""

    cpus: int
    gpus: int


class JobClient(Protocol):
    """The four things the service asks of a cluster. Each raises `ClusterUnavailableError` where no answer comes."""

    def submit(self, submission_id: str, entrypoint: str, metadata: Mapping[str, str]) -> None:
        """Start a job. After an error, `report` says whether it was started all the same."""
        ...

    def report(self, submission_id: str) -> JobReport:
        """Return how a job is; status MISSING where the cluster does not know it."""
        ...

    def stop(self, submission_id: str) -> None:
        """Ask a job's process to end (SIGTERM, then SIGKILL); nothing happens where it has ended or is not known."""
        ...

    def living(self) -> Sequence[LivingJob]:
        """Return the jobs that wait or run, whoever submitted them."""
        ...


class NoJobs:
    """The jobs of a cluster that cannot be reached: every question fails as reaching it did."""

    def __init__(self, error: ClusterUnavailableError) -> None:
        self._error = error

    def submit(self, *_: object, **__: object) -> None:
        raise self._error

    def report(self, *_: object, **__: object) -> JobReport:
        raise self._error

    def stop(self, *_: object, **__: object) -> None:
        raise self._error

    def living(self) -> Sequence[LivingJob]:
        raise self._error


class _Details(BaseModel):
    """The part of Ray's `JobDetails` that matters here."""

    model_config = ConfigDict(extra="ignore")

    status: JobStatus
    message: str | None = None


class _Listed(_Details):
    """As Ray lists it. Drivers that nobody submitted have no id."""

    submission_id: str | None = None
    metadata: dict[str, str] | None = None


_LISTED: Final = TypeAdapter(tuple[_Listed, ...])


class RayJobs:
    """The jobs of one Ray cluster.

    Args:
        url: Of the cluster's dashboard, such as `http://127.0.0.1:8265`.
        token: The cluster's token, if it asks for one.
        clock: Seconds from any beginning.

    Attributes:
        observer: What can be asked of the cluster beside.
    """

    def __init__(self, url: str, *, token: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._capacity: tuple[float, Capacity] | None = None
        self._http = RayHttp(url, token=token)
        self.observer = RayObserver(self._http, clock=clock)

    def submit(self, submission_id: str, entrypoint: str, metadata: Mapping[str, str]) -> None:
        # The driver only hands the work on: it takes no CPU from those that compute.
        job = {
            "submission_id": submission_id,
            "entrypoint": entrypoint,
            "metadata": dict(metadata),
            "entrypoint_num_cpus": 0,
        }
        checked(self._http.call("POST", "/api/jobs/", json=job))

    def report(self, submission_id: str) -> JobReport:
        response = self._http.call("GET", f"/api/jobs/{submission_id}")
        if response.status_code == HTTPStatus.NOT_FOUND:
            return JobReport(status=JobStatus.MISSING)
        try:
            details = _Details.model_validate_json(checked(response).content)
        except ValidationError as error:
            raise ClusterUnavailableError("Ray's answer about a job cannot be read", got=submission_id) from error
        return JobReport(status=details.status, message=details.message or "")

    def stop(self, submission_id: str) -> None:
        response = self._http.call("POST", f"/api/jobs/{submission_id}/stop")
        if response.status_code != HTTPStatus.NOT_FOUND:
            checked(response)

    def living(self) -> Sequence[LivingJob]:
        try:
            listed = _LISTED.validate_json(self._http.bounded("/api/jobs/"))
        except ValidationError as error:
            raise ClusterUnavailableError("Ray's answer about its jobs cannot be read") from error
        return [
            LivingJob(submission_id=job.submission_id, metadata=job.metadata or {})
            for job in listed
            if job.submission_id is not None and job.status in ALIVE
        ]

    def check(self) -> None:
        """Ask the cluster whether it is well. Raises `ClusterUnavailableError` if it is not."""
        checked(self._http.call("GET", "/api/gcs_healthz"))

    def capacity(self) -> Capacity:
        """Return what the nodes that live have together; what was answered is believed for `CAPACITY_AGE_S`."""
        now_s = self._clock()
        if self._capacity is None or now_s - self._capacity[0] >= CAPACITY_AGE_S:
            self._capacity = (now_s, self._ask_capacity())
        return self._capacity[1]

    def _ask_capacity(self) -> Capacity:
        nodes = living_nodes(self._http)
        return Capacity(*(int(sum(node.get(name, 0.0) for node in nodes)) for name in ("CPU", "GPU")))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
