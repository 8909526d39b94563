"""Jobs on a Ray cluster, through the REST interface of its dashboard: no driver lives in the web process.

`ray.job_submission.JobSubmissionClient` speaks the same interface, but without timeouts, and tells a missing job from a
failing cluster by the text of an exception only.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import httpx
from pydantic import AliasPath, BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from service.errors import ClusterUnavailableError

TIMEOUT_S: Final = 15.0
# The question costs a small cluster 30 ms of CPU, and is asked at every look at what waits.
CAPACITY_AGE_S: Final = 5.0
MAX_LIST_BYTES: Final = 32 << 20
"""Ray lists all jobs since its start, in one answer of about a kilobyte each."""


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


class _Node(BaseModel):
    """The part of Ray's `NodeState` that matters here."""

    state: str
    resources_total: dict[str, FiniteFloat] = Field(default_factory=dict)


class _Nodes(BaseModel):
    nodes: tuple[_Node, ...] = Field(validation_alias=AliasPath("data", "result", "result"))


class RayJobs:
    """The jobs of one Ray cluster.

    Args:
        url: Of the cluster's dashboard, such as `http://127.0.0.1:8265`.
        token: The cluster's token, if it asks for one.
        clock: Seconds from any beginning.
    """

    def __init__(self, url: str, *, token: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._capacity: tuple[float, Capacity] | None = None
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # A cluster's own addresses are never behind the proxy that the environment may name.
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)

    def submit(self, submission_id: str, entrypoint: str, metadata: Mapping[str, str]) -> None:
        # The driver only hands the work on: it takes no CPU from those that compute.
        job = {
            "submission_id": submission_id,
            "entrypoint": entrypoint,
            "metadata": dict(metadata),
            "entrypoint_num_cpus": 0,
        }
        self._checked(self._call("POST", "/api/jobs/", json=job))

    def report(self, submission_id: str) -> JobReport:
        response = self._call("GET", f"/api/jobs/{submission_id}")
        if response.status_code == httpx.codes.NOT_FOUND:
            return JobReport(status=JobStatus.MISSING)
        try:
            details = _Details.model_validate_json(self._checked(response).content)
        except ValidationError as error:
            raise ClusterUnavailableError("Ray's answer about a job cannot be read", got=submission_id) from error
        return JobReport(status=details.status, message=details.message or "")

    def stop(self, submission_id: str) -> None:
        response = self._call("POST", f"/api/jobs/{submission_id}/stop")
        if response.status_code != httpx.codes.NOT_FOUND:
            self._checked(response)

    def living(self) -> Sequence[LivingJob]:
        try:
            listed = _LISTED.validate_json(self._bounded("/api/jobs/"))
        except ValidationError as error:
            raise ClusterUnavailableError("Ray's answer about its jobs cannot be read") from error
        return [
            LivingJob(submission_id=job.submission_id, metadata=job.metadata or {})
            for job in listed
            if job.submission_id is not None and job.status in ALIVE
        ]

    def check(self) -> None:
        """Ask the cluster whether it is well. Raises `ClusterUnavailableError` if it is not."""
        self._checked(self._call("GET", "/api/gcs_healthz"))

    def capacity(self) -> Capacity:
        """Return what the nodes that live have together; what was answered is believed for `CAPACITY_AGE_S`."""
        now_s = self._clock()
        if self._capacity is None or now_s - self._capacity[0] >= CAPACITY_AGE_S:
            self._capacity = (now_s, self._ask_capacity())
        return self._capacity[1]

    def _ask_capacity(self) -> Capacity:
        response = self._checked(self._call("GET", "/api/v0/nodes", params={"detail": "true", "limit": "10000"}))
        try:
            listed = _Nodes.model_validate_json(response.content).nodes
        except ValidationError as error:
            raise ClusterUnavailableError("Ray's answer about its nodes cannot be read") from error
        alive = [node.resources_total for node in listed if node.state == "ALIVE"]
        cpus, gpus = (int(sum(resources.get(name, 0.0) for resources in alive)) for name in ("CPU", "GPU"))
        return Capacity(cpus, gpus)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _call(
        self, method: str, path: str, *, json: object = None, params: Mapping[str, str] | None = None
    ) -> httpx.Response:
        with _answered():
            return self._http.request(method, path, json=json, params=params)

    def _bounded(self, path: str) -> bytes:
        """Return an answer of at most `MAX_LIST_BYTES`."""
        data = bytearray()
        with _answered(), self._http.stream("GET", path) as response:
            if not response.is_success:
                response.read()
            self._checked(response)
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > MAX_LIST_BYTES:
                    raise ClusterUnavailableError("Ray knows of too many jobs", expected=f"{MAX_LIST_BYTES} bytes")
        return bytes(data)

    def _checked(self, response: httpx.Response) -> httpx.Response:
        if response.is_success:
            return response
        if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise ClusterUnavailableError(
                "Ray refuses the token", todo="Set RAY_AUTH_TOKEN to the token that the cluster was started with."
            )
        raise ClusterUnavailableError(f"Ray answered with status {response.status_code}", got=response.text[:500])


@contextmanager
def _answered() -> Iterator[None]:
    """Raise `ClusterUnavailableError` where no answer comes."""
    try:
        yield
    except (httpx.HTTPError, RuntimeError) as error:  # the latter of a client that another thread has closed
        raise ClusterUnavailableError("Ray does not answer", got=str(error) or type(error).__name__) from error
