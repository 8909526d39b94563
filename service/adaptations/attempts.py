"""One attempt of an adaptation: its names on the cluster, and its files in the store.

The service writes `request.json` and `control.json`; the job writes all the others, `manifest.json` last.
"""

from pydantic import TypeAdapter, ValidationError

from service.attempt_files import PROGRESS, REQUEST, JobFiles, command, job_metadata
from service.errors import InvalidAttemptFileError
from service.records.model import Adaptation
from service.schemas import Result
from workers.contracts.adaptations import AttemptRequest, Control, Failure, Progress
from workers.contracts.artifacts import MANIFEST, Manifest, Metrics
from workers.contracts.errors import ObjectMissingError
from workers.store import layout
from workers.store.protocol import Store

_DOCUMENT: TypeAdapter[dict[str, object]] = TypeAdapter(dict[str, object])


def entrypoint(store: Store, adaptation: Adaptation) -> str:
    """Return the shell command of the current attempt's job."""
    return command("workers.adapt.job", store, layout.attempt(adaptation.id, adaptation.attempt))


def metadata(adaptation: Adaptation, *, home: str) -> dict[str, str]:
    """Return what the Ray dashboard shows beside the job; `home` is that of its records: see `WorkRecords.home`."""
    return job_metadata(adaptation, kind="adaptation", name=adaptation.request.name or adaptation.id, home=home)


class AttemptFiles(JobFiles):
    """The files of an adaptation's current attempt."""

    def __init__(self, store: Store, adaptation: Adaptation) -> None:
        super().__init__(store, layout.attempt(adaptation.id, adaptation.attempt))
        self._adaptation = adaptation

    def write_request(self) -> None:
        """Write what the job reads first."""
        adaptation = self._adaptation
        self.write(
            REQUEST,
            AttemptRequest(
                adaptation_id=adaptation.id,
                attempt=adaptation.attempt,
                request=adaptation.request,
                dataset_key=layout.dataset_archive(adaptation.dataset_sha256),
                dataset_sha256=adaptation.dataset_sha256,
                spent_s=adaptation.spent_s,
            ),
        )

    def write_cancel(self) -> None:
        """Ask the job to end by itself."""
        self.write("control.json", Control(desired="cancel"))

    def cancel_written(self) -> bool:
        """Return whether the job has been asked to end."""
        control = self.read("control.json", Control)
        return control is not None and control.desired == "cancel"

    def progress(self) -> Progress | None:
        return self.read(PROGRESS, Progress)

    def failure(self) -> Failure | None:
        return self.read("failure.json", Failure)

    def manifest(self) -> Manifest | None:
        return self.read(MANIFEST, Manifest)

    def result(self) -> Result:
        """Return the outcome that the finished job's `metrics.json` and `architecture.json` tell.

        Raises:
            InvalidAttemptFileError: One of the two is missing or cannot be read.
        """
        metrics = self.require("metrics.json", Metrics)
        return Result(
            architecture=self._document("architecture.json"),
            accuracy=metrics.accuracy,
            accuracy_interval=metrics.accuracy_interval,
            num_test=metrics.num_test,
            cost=metrics.cost,
            timings_s=metrics.timings_s,
            verdict=metrics.verdict,
            budget_note=metrics.budget_note,
        )

    def _document(self, name: str) -> dict[str, object]:
        try:
            return _DOCUMENT.validate_json(self.store.get_bytes(self.key(name)))
        except (ObjectMissingError, ValidationError) as error:
            raise InvalidAttemptFileError(f"{name} is missing or cannot be read", got=self.key(name)) from error
