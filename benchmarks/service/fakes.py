"""A cluster that takes every job and runs it for ever: what the service costs without Ray."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from socket import AF_INET, IPPROTO_TCP, SOCK_STREAM, socket
from threading import Thread

import httpx
import uvicorn
from fastapi import FastAPI

from service.ray.jobs import Capacity, JobReport, JobStatus, LivingJob
from service.ray.observer import Amount, ClusterLoad, JobActors


class FakeJobs:
    """Jobs that run until they are stopped."""

    def __init__(self) -> None:
        self._status: dict[str, JobStatus] = {}

    def submit(self, submission_id: str, entrypoint: str, metadata: Mapping[str, str]) -> None:  # noqa: ARG002
        self._status[submission_id] = JobStatus.RUNNING

    def report(self, submission_id: str) -> JobReport:
        return JobReport(status=self._status.get(submission_id, JobStatus.MISSING))

    def stop(self, submission_id: str) -> None:
        self._status[submission_id] = JobStatus.STOPPED

    def living(self) -> list[LivingJob]:
        return [LivingJob(submission_id=name, metadata={}) for name in self._status]


@dataclass(frozen=True)
class FakeObserver:
    """Sees that many idle CPUs, and jobs that say nothing."""

    num_cpus: int

    def load(self) -> ClusterLoad:
        return ClusterLoad(num_nodes=1, cpus=Amount(self.num_cpus, 0.0), gpus=Amount(0.0, 0.0))

    def actors(self, submission_id: str) -> JobActors:  # noqa: ARG002
        return JobActors(ray_id=None, actors=())

    def log(self, submission_id: str, *, num_bytes: int) -> bytes:  # noqa: ARG002
        return b""


class FakeCluster:
    """A cluster with room for that many CPUs."""

    dashboard_url: str | None = None

    def __init__(self, *, num_cpus: int = 4) -> None:
        self._jobs, self._num_cpus = FakeJobs(), num_cpus

    def connect(self) -> FakeJobs:
        return self._jobs

    def capacity(self) -> Capacity:
        return Capacity(self._num_cpus, 0)

    def observer(self) -> FakeObserver:
        return FakeObserver(self._num_cpus)

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Yield the address of an app that a thread of this process serves, on a free port of loopback."""
    # With its protocol named, as that of `archprior serve` is: else asyncio lets small answers wait for 40 ms.
    with socket(AF_INET, SOCK_STREAM, IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, lifespan="on"))
        thread = Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            listening.listen()  # a request waits in the queue of the socket until the server takes it
            httpx.get(f"{url}/healthz", timeout=60, trust_env=False).raise_for_status()
            yield url
        finally:
            server.should_exit = True
            thread.join(60)
