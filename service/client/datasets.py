"""Calls on `/v1/datasets`."""

from pathlib import Path

from service.client.calls import UPLOAD_TIMEOUT_S, Calls, quoted
from service.client.errors import ServiceError
from service.client.requests import FormFile, Request
from service.client.transport import Answer
from service.schemas import (
    DatasetBegin,
    DatasetChange,
    DatasetPage,
    DatasetSource,
    DatasetState,
    DatasetView,
    EventPage,
    Problem,
    UploadPartPage,
)

DATASETS = "/v1/datasets"


class DatasetCalls(Calls):
    """Datasets of a service."""

    async def create_dataset(
        self, archive: Path, *, name: str | None = None, meta_use: bool | None = None, terms: str | None = None
    ) -> DatasetView:
        """Upload a zip of class folders in constant memory; return what the check found.

        The same bytes are stored once, so this call is retried like a read. Of bytes that the service knows, what is
        given here changes, and what is absent stays. For an archive that takes long to send, see `upload_dataset`.

        Args:
            archive: The zip.
            name: As people know it; the file's name if absent.
            meta_use: Whether meta-runs may learn from it; they may not if absent.
            terms: Under which its images stand.
        """
        given = {"name": name, "meta_use": None if meta_use is None else str(meta_use).lower(), "terms": terms}
        request = Request(
            method="POST",
            target=DATASETS,
            form={field: value for field, value in given.items() if value is not None},
            files={"dataset": FormFile(archive, "application/zip")},
            timeout_s=UPLOAD_TIMEOUT_S,
        )
        return await self._ask(request, DatasetView)

    async def begin_dataset(self, begin: DatasetBegin, *, key: str | None = None) -> DatasetView:
        """Announce a dataset that will arrive in parts, which `upload_dataset` sends: `resume` is the answer's id.

        Args:
            begin: Its size, and what is to be known of it.
            key: The same request with the same key begins one dataset, within 24 hours. Absent: a new key.
        """
        return await self._create(DATASETS, DatasetView, json=begin.model_dump(mode="json", exclude_none=True), key=key)

    async def dataset_parts(self, dataset_id: str, *, after: int = 0, limit: int | None = None) -> UploadPartPage:
        """Return where the parts that follow number `after` are to be sent, and which have arrived."""
        return await self._get(f"{_path(dataset_id)}/parts", UploadPartPage, after=after, limit=limit)

    async def complete_dataset(self, dataset_id: str) -> DatasetView:
        """Say that all parts have been sent; doing it twice does what once does."""
        return await self._post(f"{_path(dataset_id)}/complete", DatasetView)

    async def copy_dataset(
        self,
        source: str,
        *,
        name: str | None = None,
        meta_use: bool | None = None,
        terms: str | None = None,
        key: str | None = None,
    ) -> DatasetView:
        """Ask the service to copy a zip from a bucket; `wait_dataset` returns what the check found.

        Args:
            source: `s3://bucket/key`, below a prefix that the service's operator allows.
            name: As people know it; the file's name if absent.
            meta_use: Whether meta-runs may learn from it; they may not if absent.
            terms: Under which its images stand.
            key: As of `begin_dataset`.
        """
        asked = DatasetSource(source=source, name=name, meta_use=meta_use, terms=terms)
        return await self._create(DATASETS, DatasetView, json=asked.model_dump(mode="json", exclude_none=True), key=key)

    async def wait_dataset(self, dataset_id: str, *, poll_s: float = 1.0) -> DatasetView:
        """Return a dataset once it is READY; one that is still UPLOADING is waited for, too.

        Its id may be another one than was asked for: where the same bytes were here before, that dataset stands for it.

        Args:
            dataset_id: Which one.
            poll_s: Seconds between polls.

        Raises:
            ServiceError: It was REJECTED, with the reason.
        """
        while True:
            view = await self.dataset(dataset_id)
            if view.state == "READY":
                return view
            if view.state == "REJECTED":
                unknown = Problem(title=f"dataset {view.id} was rejected", status=422, code="invalid_dataset")
                raise ServiceError(view.error or unknown)
            await self._sleep(poll_s)

    async def dataset(self, dataset_id: str) -> DatasetView:
        """Return one dataset as it stands now."""
        return await self._get(_path(dataset_id), DatasetView)

    async def datasets(
        self, *, state: DatasetState | None = None, limit: int | None = None, cursor: str | None = None
    ) -> DatasetPage:
        """Return datasets, newest first; `cursor` is the `next_cursor` of the page before."""
        return await self._get(DATASETS, DatasetPage, state=state, limit=limit, cursor=cursor)

    async def dataset_events(self, dataset_id: str, *, after: int = 0, limit: int | None = None) -> EventPage:
        """Return what became of a dataset after the event of sequence `after`, oldest first."""
        return await self._get(f"{_path(dataset_id)}/events", EventPage, after=after, limit=limit)

    async def thumbnails(self, dataset_id: str) -> bytes:
        """Return a JPEG picture of some images, a row for each class; see `findings.thumbnails`."""
        return await self._connection.call(Request(method="GET", target=f"{_path(dataset_id)}/thumbnails"), _whole)

    async def change_dataset(self, dataset_id: str, change: DatasetChange) -> DatasetView:
        """Change what may be changed of a dataset; return it as it is then."""
        fields = change.model_dump(mode="json", exclude_none=True)
        return await self._ask(Request(method="PATCH", target=_path(dataset_id), json=fields), DatasetView)

    async def delete_dataset(self, dataset_id: str) -> None:
        """Delete a dataset that no unfinished work uses. Never retried: a second try finds none."""
        await self._delete(_path(dataset_id))


def _path(dataset_id: str) -> str:
    return f"{DATASETS}/{quoted(dataset_id)}"


async def _whole(answer: Answer) -> bytes:
    return await answer.read()
