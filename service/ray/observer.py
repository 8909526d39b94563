"""What people want to see of a Ray cluster: how busy it is, and of one job its actors and its log.

Nothing that the service decides depends on these answers.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

from pydantic import AliasPath, BaseModel, Field, FiniteFloat, ValidationError

from service.errors import ClusterUnavailableError, NotFoundError
from service.ray.http import TIMEOUT_S, RayHttp, checked

LOAD_AGE_S: Final = 5.0
"""Many may watch: the cluster is asked for its load once in so many seconds, however it answers."""
LOAD_TIMEOUT_S: Final = 4.0
"""Whoever looks at everything at once wants to be told soon that the cluster does not answer."""
MAX_ACTORS: Final = 1000
MAX_LOG_LINES: Final = 10_000
RAY_TIMEOUT_S: Final = 10
"""Within which Ray itself gives a question up: before this service does."""

_USAGE: Final = re.compile(r"^([0-9.]+)/[0-9.]+ (CPU|GPU)\b", re.MULTILINE)


@dataclass(frozen=True)
class Amount:
    """CPUs or GPUs: all that the living nodes have, and how many of those work has taken; None: Ray does not say."""

    total: float
    used: float | None


@dataclass(frozen=True, kw_only=True)
class ClusterLoad:
    """How large a cluster is and how busy."""

    num_nodes: int
    cpus: Amount
    gpus: Amount


@dataclass(frozen=True, kw_only=True)
class Actor:
    """An actor of a job.

    Attributes:
        name: That its creator gave it; empty where it gave none.
        kind: Name of its class.
        state: As Ray calls it: ALIVE, PENDING_CREATION, DEAD, ...
        pid: Of its process; None: it has none yet.
        node_id: In hexadecimal; None: it has no place yet.
    """

    id: str
    name: str
    kind: str
    state: str
    pid: int | None
    node_id: str | None


@dataclass(frozen=True, kw_only=True)
class JobActors:
    """The actors of a job, and what Ray itself calls the job; None: its process has not reached Ray yet."""

    ray_id: str | None
    actors: tuple[Actor, ...]


class Observer(Protocol):
    """Looks at a cluster as it is. Each question raises `ClusterUnavailableError` where no answer comes."""

    def load(self) -> ClusterLoad:
        """Return how busy the cluster is; what was answered is believed for `LOAD_AGE_S`."""
        ...

    def actors(self, submission_id: str) -> JobActors:
        """Return the actors of a job, dead ones too. Raises `NotFoundError` where the cluster does not know the job."""
        ...

    def log(self, submission_id: str, *, num_bytes: int) -> bytes:
        """Return the last bytes of what a job has printed. Raises `NotFoundError` as `actors` does."""
        ...


class _Node(BaseModel):
    """The part of Ray's `NodeState` that matters here."""

    state: str
    resources_total: dict[str, FiniteFloat] = Field(default_factory=dict)


class _Nodes(BaseModel):
    nodes: tuple[_Node, ...] = Field(validation_alias=AliasPath("data", "result", "result"))


class _Usage(BaseModel):
    """Ray tells the use of each node as text, a line for each resource: `1.0/4.0 CPU`."""

    lines: dict[str, str] = Field(validation_alias=AliasPath("data", "nodeLogicalResources"))


class _Job(BaseModel):
    """The part of Ray's `JobDetails` that matters here."""

    status: str
    job_id: str | None = None
    driver_node_id: str | None = None


class _Actor(BaseModel):
    """The part of Ray's `ActorState` that matters here."""

    actor_id: str
    class_name: str
    state: str
    name: str | None = None
    node_id: str | None = None
    pid: int | None = None


class _Actors(BaseModel):
    actors: tuple[_Actor, ...] = Field(validation_alias=AliasPath("data", "result", "result"))


def living_nodes(http: RayHttp, *, timeout_s: float = TIMEOUT_S) -> Sequence[Mapping[str, float]]:
    """Return the resources of each node that lives, by Ray's names.

    Raises:
        ClusterUnavailableError: No answer comes, or one that says nothing of nodes.
    """
    params = {"detail": "true", "limit": "10000"}
    response = checked(http.call("GET", "/api/v0/nodes", params=params, timeout_s=timeout_s))
    try:
        listed = _Nodes.model_validate_json(response.content).nodes
    except ValidationError as error:
        raise ClusterUnavailableError("Ray's answer about its nodes cannot be read") from error
    return [node.resources_total for node in listed if node.state == "ALIVE"]


class RayObserver:
    """Looks at a cluster through its dashboard.

    Args:
        http: Of the dashboard.
        clock: Seconds from any beginning.
    """

    def __init__(self, http: RayHttp, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._http, self._clock = http, clock
        self._asking = threading.Lock()
        self._known: tuple[float, ClusterLoad | ClusterUnavailableError] | None = None

    def load(self) -> ClusterLoad:
        with self._asking:  # who comes meanwhile is told what the first one hears
            if self._known is None or self._clock() - self._known[0] >= LOAD_AGE_S:
                heard = self._ask_load()
                self._known = (self._clock(), heard)
            known = self._known[1]
        if isinstance(known, ClusterUnavailableError):
            raise copy(known)  # one that is raised grows a traceback, and this one is kept
        return known

    def actors(self, submission_id: str) -> JobActors:
        job = self._job(submission_id)
        if job.job_id is None:
            return JobActors(ray_id=None, actors=())
        params = {
            "filter_keys": "job_id",
            "filter_predicates": "=",
            "filter_values": job.job_id,
            "limit": str(MAX_ACTORS),
            "timeout": str(RAY_TIMEOUT_S),
        }
        data = self._http.bounded("/api/v0/actors", params=params)
        try:
            listed = _Actors.model_validate_json(data).actors
        except ValidationError as error:
            raise ClusterUnavailableError("Ray's answer about a job's actors cannot be read") from error
        return JobActors(ray_id=job.job_id, actors=tuple(map(_actor, listed)))

    def log(self, submission_id: str, *, num_bytes: int) -> bytes:
        job = self._job(submission_id)
        if job.status == "PENDING" or job.driver_node_id is None:
            return b""  # there is no file yet
        # Unlike `/api/jobs/{id}/logs`, which reads the whole file into Ray's memory, this one can begin near its end.
        params = {
            "node_id": job.driver_node_id,
            "submission_id": submission_id,
            "lines": str(MAX_LOG_LINES),
            "timeout": str(RAY_TIMEOUT_S),
        }
        return self._http.tail("/api/v0/logs/file", params=params, num_bytes=num_bytes)

    def _ask_load(self) -> ClusterLoad | ClusterUnavailableError:
        try:
            nodes = living_nodes(self._http, timeout_s=LOAD_TIMEOUT_S)
        except ClusterUnavailableError as error:
            return error
        used = self._ask_used()
        cpus, gpus = (Amount(sum(node.get(name, 0.0) for node in nodes), used.get(name)) for name in ("CPU", "GPU"))
        return ClusterLoad(num_nodes=len(nodes), cpus=cpus, gpus=gpus)

    def _ask_used(self) -> Mapping[str, float]:
        """Return what all nodes' work has taken, by Ray's names; empty where Ray does not say it in this form.

        There is no better one, and a cluster's size is worth telling without its use.
        """
        try:
            answer = self._http.bounded("/nodes", params={"view": "summary"}, timeout_s=LOAD_TIMEOUT_S)
            lines = _Usage.model_validate_json(answer).lines.values()
        except (ClusterUnavailableError, ValidationError):
            return {}
        used: dict[str, float] = {}
        for amount, name in (found for text in lines for found in _USAGE.findall(text)):
            used[name] = used.get(name, 0.0) + float(amount)
        return used

    def _job(self, submission_id: str) -> _Job:
        response = self._http.call("GET", f"/api/jobs/{submission_id}")
        if response.status_code == HTTPStatus.NOT_FOUND:
            raise NotFoundError(
                "Ray does not know this job any more",
                got=submission_id,
                todo="Ray keeps jobs and their logs for as long as its head runs.",
            )
        try:
            return _Job.model_validate_json(checked(response).content)
        except ValidationError as error:
            raise ClusterUnavailableError("Ray's answer about a job cannot be read", got=submission_id) from error


def _actor(told: _Actor) -> Actor:
    return Actor(
        id=told.actor_id,
        name=told.name or "",
        kind=told.class_name,
        state=told.state,
        pid=told.pid or None,
        node_id=told.node_id or None,
    )
