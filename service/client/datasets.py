"""Calls on `/v1/datasets`."""

from functools import partial
from pathlib import Path

from service.client.connection import UPLOAD_TIMEOUT_S, Connection, parsed, quoted
from service.schemas import DatasetChange, DatasetPage, DatasetView


class DatasetCalls(Connection):
    """Datasets of a service."""

    def create_dataset(
        self, archive: Path, *, name: str | None = None, meta_use: bool | None = None, terms: str | None = None
    ) -> DatasetView:
        """Upload a zip of class folders in constant memory; return what the check found.

        The same bytes are stored once, so this call is retried like a read. Of bytes that the service knows, what is
        given here changes, and what is absent stays.

        Args:
            archive: The zip.
            name: As people know it; the file's name if absent.
            meta_use: Whether meta-runs may learn from it; they may not if absent.
            terms: Under which its images stand.
        """
        given = {"name": name, "meta_use": None if meta_use is None else str(meta_use).lower(), "terms": terms}
        form = {field: value for field, value in given.items() if value is not None}
        with archive.open("rb") as file:
            return self._transport.call(
                "POST",
                "/v1/datasets",
                partial(parsed, schema=DatasetView),
                form=form,
                files={"dataset": (archive.name, file, "application/zip")},
                timeout_s=UPLOAD_TIMEOUT_S,
            )

    def dataset(self, dataset_id: str) -> DatasetView:
        """Return one dataset."""
        return self._get(f"/v1/datasets/{quoted(dataset_id)}", DatasetView)

    def datasets(self, *, limit: int | None = None, cursor: str | None = None) -> DatasetPage:
        """Return datasets, newest first; `cursor` is the `next_cursor` of the page before."""
        return self._get("/v1/datasets", DatasetPage, limit=limit, cursor=cursor)

    def change_dataset(self, dataset_id: str, change: DatasetChange) -> DatasetView:
        """Change what may be changed of a dataset; return it as it is then."""
        fields = change.model_dump(mode="json", exclude_none=True)
        path = f"/v1/datasets/{quoted(dataset_id)}"
        return self._transport.call("PATCH", path, partial(parsed, schema=DatasetView), json=fields)
