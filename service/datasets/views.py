"""From records of datasets to what the API shows."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from service.records.model import DatasetEntry
from service.schemas import DatasetView, UploadView
from workers.contracts.errors import ObjectMissingError
from workers.store import layout
from workers.store.protocol import Store

DATASETS = "/v1/datasets"


def dataset_path(dataset_id: str) -> str:
    """Return the path of a dataset, from the service's root."""
    return f"{DATASETS}/{dataset_id}"


def num_parts_of(num_bytes: int, part_bytes: int) -> int:
    """Return in how many parts so many bytes arrive."""
    return -(-num_bytes // part_bytes)


@dataclass(frozen=True, kw_only=True)
class DatasetViews:
    """Adds to a record what the store knows.

    Attributes:
        store: For the parts that have arrived.
        expires_s: Seconds from the beginning of an upload until it is forgotten.
    """

    store: Store
    expires_s: int

    def dataset(self, entry: DatasetEntry) -> DatasetView:
        """Return a dataset as it stands now."""
        return _view(entry, self._upload(entry))

    def listed(self, entries: Iterable[DatasetEntry]) -> tuple[DatasetView, ...]:
        """Return datasets as lists show them: the store is not asked which parts have arrived."""
        return tuple(_view(entry, None) for entry in entries)

    def _upload(self, entry: DatasetEntry) -> UploadView | None:
        arrival = entry.arrival
        if entry.state != "UPLOADING" or arrival is None or arrival.upload_id is None or arrival.part_bytes is None:
            return None
        try:
            num_arrived = len(self.store.parts(layout.upload(entry.id), arrival.upload_id))
        except ObjectMissingError:  # forgotten by the store
            num_arrived = 0
        own = dataset_path(entry.id)
        return UploadView(
            part_bytes=arrival.part_bytes,
            num_parts=num_parts_of(entry.num_bytes, arrival.part_bytes),
            num_arrived=num_arrived,
            parts=f"{own}/parts",
            complete=f"{own}/complete",
            expires_at=entry.created_at + timedelta(seconds=self.expires_s),
        )


def _view(entry: DatasetEntry, upload: UploadView | None) -> DatasetView:
    has_thumbnails = entry.findings is not None and entry.findings.thumbnails is not None
    return DatasetView(
        id=entry.id,
        name=entry.name,
        state=entry.state,
        sha256=entry.sha256,
        num_bytes=entry.num_bytes,
        report=entry.report,
        findings=entry.findings,
        thumbnails=f"{dataset_path(entry.id)}/thumbnails" if has_thumbnails else None,
        source=entry.source,
        upload=upload,
        error=entry.error,
        created_at=entry.created_at,
        meta_use=entry.meta_use,
        terms=entry.terms,
    )
