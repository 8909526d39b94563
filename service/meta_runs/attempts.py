"""One attempt of a meta-run: its names on the cluster, and its files in the store.

The service writes `request.json` and `control.json`, and `failure.json` where an attempt was ended without a word of
its job; the job writes all the others, `manifest.json` last.
"""

from typing import Final

from service.attempt_files import PROGRESS, REQUEST, JobFiles, command, job_metadata
from service.records.model import MetaRun
from service.schemas import MetaResult
from workers.contracts.adaptations import Failure
from workers.contracts.artifacts import MANIFEST
from workers.contracts.meta_runs import (
    MetaAttemptRequest,
    MetaControl,
    MetaEvent,
    MetaEvents,
    MetaManifest,
    MetaMetrics,
    MetaProgress,
)
from workers.store import layout
from workers.store.protocol import Store

JOB: Final = "workers.meta.job"
FAILURE: Final = "failure.json"


def entrypoint(store: Store, meta_run: MetaRun) -> str:
    """Return the shell command of the current attempt's job."""
    return command(JOB, store, layout.meta_attempt(meta_run.id, meta_run.attempt))


def metadata(meta_run: MetaRun, *, home: str) -> dict[str, str]:
    """Return what the Ray dashboard shows beside the job; `home` is that of its records: see `WorkRecords.home`."""
    return job_metadata(meta_run, kind="meta-run", name=meta_run.request.name or meta_run.prior_id, home=home)


class MetaAttemptFiles(JobFiles):
    """The files of one attempt of a meta-run.

    Args:
        store: Where they lie.
        meta_run: Whose they are.
        attempt: Which one. Absent: the current one.
    """

    def __init__(self, store: Store, meta_run: MetaRun, attempt: int | None = None) -> None:
        super().__init__(store, layout.meta_attempt(meta_run.id, attempt or meta_run.attempt))
        self._meta_run = meta_run

    def write_request(self) -> None:
        """Write what the job reads first."""
        meta_run = self._meta_run
        self.write(
            REQUEST,
            MetaAttemptRequest(
                meta_run_id=meta_run.id,
                attempt=meta_run.attempt,
                request=meta_run.request,
                datasets=meta_run.datasets,
                prior_id=meta_run.prior_id,
                spent_s=meta_run.spent_s,
            ),
        )

    def control(self) -> MetaControl | None:
        return self.read("control.json", MetaControl)

    def write_control(self, control: MetaControl) -> None:
        """Tell the job what is wanted of it; what was told before no longer counts."""
        self.write("control.json", control)

    def progress(self) -> MetaProgress | None:
        return self.read(PROGRESS, MetaProgress)

    def events(self) -> tuple[MetaEvent, ...]:
        """Return the last events, oldest first; none where the job has told none yet."""
        events = self.read("events.json", MetaEvents)
        return () if events is None else events.events

    def failure(self) -> Failure | None:
        return self.read(FAILURE, Failure)

    def has_ended(self) -> bool:
        """Return whether the attempt came to an end, with a manifest or a failure, rather than being lost."""
        return any(self.store.size(self.key(name)) is not None for name in (MANIFEST, FAILURE))

    def write_end(self, failure: Failure) -> None:
        """Tell why the attempt was ended, where its job was submitted but has left no word of an end itself."""
        if self.was_started() and not self.has_ended():
            self.write(FAILURE, failure)

    def manifest(self) -> MetaManifest | None:
        return self.read(MANIFEST, MetaManifest)

    def result(self, manifest: MetaManifest) -> MetaResult:
        """Return the outcome that the manifest and `metrics.json` tell.

        Raises:
            InvalidAttemptFileError: `metrics.json` is missing or cannot be read.
        """
        metrics = self.require("metrics.json", MetaMetrics)
        return MetaResult(
            prior_id=manifest.prior_id,
            step=manifest.step,
            complete=manifest.complete,
            scores=metrics.scores,
            counters=metrics.counters,
            adjustments=metrics.adjustments,
            data_wait=metrics.data_wait,
        )
