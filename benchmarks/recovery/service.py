"""A service that kills itself at one step of its way; its jobs lie in a folder, or in a local Ray, and so outlive it.

Started by `benchmarks.recovery`: `python -m benchmarks.recovery.service DATA_DIR PORT [POINT WHEN]`.
"""

import argparse
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn

from benchmarks.recovery.job import play
from benchmarks.service.fakes import FakeObserver
from service import parts
from service.app import create_app
from service.errors import ClusterUnavailableError
from service.ray.jobs import Capacity, JobReport, JobStatus, LivingJob, RayJobs
from service.records.adaptations import AdaptationRecords
from service.records.datasets import DatasetRecords
from service.settings import Settings
from workers.store.open import open_store
from workers.store.protocol import Store

KILLED: Final = 137
DOWN: Final = "down"


class FolderJobs:
    """Jobs as files of a folder, whichever service submitted them. A file `down` makes the cluster unreachable.

    A job runs for `job_s` seconds, and then leaves what a real one would: see `job.play`.
    """

    def __init__(self, folder: Path, store: Store, *, job_s: float) -> None:
        self._folder, self._store, self._job_s = folder, store, job_s
        folder.mkdir(parents=True, exist_ok=True)

    def submit(self, submission_id: str, entrypoint: str, _: Mapping[str, str]) -> None:
        with self._locked():
            with (self._folder / "submissions").open("a") as log:
                log.write(f"{submission_id}\n")
            if self._path(submission_id).exists():
                raise ClusterUnavailableError("Ray answered with status 500", got=submission_id)
            self._write(submission_id, JobStatus.RUNNING, entrypoint.split()[-1])

    def report(self, submission_id: str) -> JobReport:
        with self._locked():
            path = self._path(submission_id)
            if not path.exists():
                return JobReport(status=JobStatus.MISSING)
            job = json.loads(path.read_text())
            if job["status"] == JobStatus.RUNNING:
                status = play(self._store, job["attempt"], age_s=time.time() - job["began"], job_s=self._job_s)
                if status != JobStatus.RUNNING:
                    job["status"] = status
                    path.write_text(json.dumps(job))
            return JobReport(status=JobStatus(job["status"]))

    def stop(self, submission_id: str) -> None:
        with self._locked():
            path = self._path(submission_id)
            if path.exists():
                path.write_text(json.dumps({**json.loads(path.read_text()), "status": JobStatus.STOPPED}))

    def living(self) -> list[LivingJob]:
        with self._locked():
            running = (path for path in self._folder.glob("*.json") if '"RUNNING"' in path.read_text())
            return [LivingJob(submission_id=path.stem, metadata={}) for path in running]

    def _path(self, submission_id: str) -> Path:
        return self._folder / f"{submission_id}.json"

    def _write(self, submission_id: str, status: JobStatus, attempt: str) -> None:
        self._path(submission_id).write_text(json.dumps({"status": status, "attempt": attempt, "began": time.time()}))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time see the jobs."""
        if (self._folder / DOWN).exists():
            raise ClusterUnavailableError("Ray does not answer")
        with (self._folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@dataclass(frozen=True)
class FolderCluster:
    """A cluster with those jobs."""

    jobs: FolderJobs
    dashboard_url: str | None = None

    def connect(self) -> FolderJobs:
        return self.jobs

    def capacity(self) -> Capacity:
        return Capacity(4, 0)

    def observer(self) -> FakeObserver:
        return FakeObserver(4)

    def check(self) -> None:
        return

    def close(self) -> None:
        return


def put_of(ending: str) -> Callable[..., bool]:
    """Return whether a call of a store writes a key of that ending."""
    return lambda _, key, *__, **___: key.endswith(ending)


def change_to(state: str) -> Callable[..., bool]:
    """Return whether a call of the records changes to that state."""
    return lambda _, __, change: change.state == state


def always(*_: object, **__: object) -> bool:
    """Return True: every call counts."""
    return True


def arm(point: str, when: str, store: type[Store], jobs: type[FolderJobs] | type[RayJobs]) -> None:
    """Have this process killed before or after the step of that name, the first time that it comes to it."""
    owner, method, counts = {
        "write the archive": (store, "put_file", put_of("archive.zip")),
        "write the report": (store, "put_bytes", put_of("report.json")),
        "record the dataset": (DatasetRecords, "add", always),
        "record the adaptation": (AdaptationRecords, "add", always),
        "write request.json": (store, "put_bytes", put_of("request.json")),
        "record RUNNING": (AdaptationRecords, "change", change_to("RUNNING")),
        "submit the job": (jobs, "submit", always),
        "record the new attempt": (AdaptationRecords, "change", change_to("QUEUED")),
        "record SUCCEEDED": (AdaptationRecords, "change", change_to("SUCCEEDED")),
        "record FAILED": (AdaptationRecords, "change", change_to("FAILED")),
        "record CANCELLING": (AdaptationRecords, "change", change_to("CANCELLING")),
        "write control.json": (store, "put_bytes", put_of("control.json")),
        "stop the job": (jobs, "stop", always),
        "record CANCELLED": (AdaptationRecords, "change", change_to("CANCELLED")),
    }[point]
    step = getattr(owner, method)

    def deadly(*arguments: object, **options: object) -> object:
        if not counts(*arguments, **options):
            return step(*arguments, **options)
        if when == "after":
            step(*arguments, **options)
        os._exit(KILLED)

    setattr(owner, method, deadly)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("kill", nargs="*")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--jobs", type=Path, help="folder of jobs that train nothing")
    kind.add_argument("--real", action="store_true", help="a local Ray and jobs that train")
    parser.add_argument("--job-s", type=float, default=0.5)
    options = parser.parse_args()
    settings = Settings(
        data_dir=options.data_dir,
        port=options.port,
        reconcile_interval_s=0.5 if options.real else 0.05,
        max_submitted_jobs=2,
        cancel_grace_s=1.0,
        ray_num_cpus=2,
    )
    jobs_store = open_store(settings.objects, create=True)
    if options.kill:
        # The jobs' own store stays as it is: it is the service that is killed.
        mortal = type("MortalStore", (type(jobs_store),), {})
        parts.open_store = lambda url, **_: _as(mortal, open_store(url, create=True))
        arm(*options.kill, mortal, RayJobs if options.real else FolderJobs)
    if options.real:
        app = create_app(settings)
    else:
        cluster = FolderCluster(FolderJobs(options.jobs, jobs_store, job_s=options.job_s))
        app = create_app(settings, cluster=lambda _: cluster)
    uvicorn.run(app, host="127.0.0.1", port=settings.port, log_level="critical", access_log=False)


def _as(kind: type[Store], store: Store) -> Store:
    store.__class__ = kind
    return store


if __name__ == "__main__":
    main()
