"""A large dataset, sent in parts: any of them again, several at a time, and on from where it broke off."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import file_digest
from http import HTTPStatus
from pathlib import Path
from typing import Final

from search_spaces.errors import ArchPriorError, InvalidOptionError
from service.client.calls import ignored
from service.client.datasets import DatasetCalls
from service.client.errors import ServiceError
from service.client.requests import FileSlice, Request
from service.schemas import DatasetBegin, DatasetView, UploadPart

OnBytes = Callable[[int, int], None]

PART_TIMEOUT_S: Final = 120.0
"""The service answers a part once the store has it."""

MAX_NAME: Final = 200
NUM_ADDRESSES: Final = 3
"""How many addresses are tried for one part: a signed one is good for some time only."""

EXPIRED: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN})
"""What stores answer at an address whose time is over: AWS and MinIO the latter, Google and rclone the former."""


class UploadStoppedError(ArchPriorError):
    """Another part could not be sent, or the program was interrupted: this one ends, too."""

    code = "upload_stopped"


class UploadCalls(DatasetCalls):
    """Datasets that are sent in parts."""

    async def begin_upload(
        self, archive: Path, *, name: str | None = None, meta_use: bool | None = None, terms: str | None = None
    ) -> DatasetView:
        """Announce a zip, with its size and hash, and send nothing of it yet: `upload_dataset` with `resume` does.

        So its id is known before, and whatever happens to this program, it can go on.

        Args:
            archive: The zip.
            name: As people know it; the file's name if absent.
            meta_use: Whether meta-runs may learn from it; they may not if absent.
            terms: Under which its images stand.

        Raises:
            InvalidOptionError: The file is empty.
        """
        num_bytes = _size(archive)
        sha256 = await self._connection.transport.compute(partial(_hash, archive))
        shown = name or archive.stem[:MAX_NAME]
        return await self.begin_dataset(
            DatasetBegin(num_bytes=num_bytes, name=shown, sha256=sha256, meta_use=meta_use, terms=terms)
        )

    async def upload_dataset(
        self,
        archive: Path,
        *,
        name: str | None = None,
        meta_use: bool | None = None,
        terms: str | None = None,
        resume: str | None = None,
        on_progress: OnBytes | None = None,
        num_parallel: int = 4,
        poll_s: float = 1.0,
    ) -> DatasetView:
        """Upload a zip of class folders in parts and in constant memory; return it once its check has found it READY.

        Each part is tried again by itself. What was interrupted is still there: `resume` sends the parts that are
        missing. The archive's hash goes before, so that what was damaged on its way, or resumed with another file of
        the same size, is refused.

        Args:
            archive: The zip.
            name: As people know it; the file's name if absent.
            meta_use: Whether meta-runs may learn from it; they may not if absent.
            terms: Under which its images stand.
            resume: Id of a dataset of which parts were sent before; it keeps what was said of it then.
            on_progress: Told the bytes sent and their number in all; never fewer than before. The blocking client calls
                it from the threads that send, one at a time.
            num_parallel: Parts that are sent at once.
            poll_s: Seconds between polls of the check.

        Raises:
            InvalidOptionError: The file is empty, or another one than that which is resumed.
            ServiceError: The service refused; of a REJECTED dataset, why.
            ServiceUnreachableError: No answer came in any try. A note names the id to resume.
        """
        if num_parallel < 1:
            raise InvalidOptionError("num_parallel is too small", got=num_parallel, expected="at least 1")
        num_bytes = _size(archive)
        if resume is None:
            view = await self.begin_upload(archive, name=name, meta_use=meta_use, terms=terms)
        else:
            view = await self._begun(resume, num_bytes)
        if view.state == "UPLOADING" and view.upload is not None:
            sent = _Sent(num_bytes, on_progress)
            try:
                await self._send_parts(_Upload(view.id, archive, view.upload.part_bytes, sent), num_parallel)
                view = await self.complete_dataset(view.id)
            except ArchPriorError as error:
                error.add_note(f"upload_dataset(..., resume={view.id!r}) sends the parts that are missing")
                raise
        return await self.wait_dataset(view.id, poll_s=poll_s)

    async def _begun(self, dataset_id: str, num_bytes: int) -> DatasetView:
        view = await self.dataset(dataset_id)
        if view.num_bytes != num_bytes:
            raise InvalidOptionError(
                f"not the file of dataset {dataset_id}",
                got=f"{num_bytes} bytes",
                expected=f"{view.num_bytes} bytes",
                todo="Name the file that was begun with, or leave out the id to begin anew.",
            )
        return view

    async def _send_parts(self, upload: "_Upload", num_parallel: int) -> None:
        """Send those that have not arrived, the list of them being read page by page."""
        after: int | None = 0
        while after is not None:
            page = await self.dataset_parts(upload.dataset_id, after=after)
            for part in page.items:
                if part.arrived:
                    upload.sent.set(part.number, part.num_bytes)
            await self._connection.transport.for_each(
                [part for part in page.items if not part.arrived],
                partial(self._send_part, upload),
                num_parallel=num_parallel,
                abandon=upload.sent.stop,
            )
            after = page.next_after

    async def _send_part(self, upload: "_Upload", part: UploadPart) -> None:
        """Send one part, to another address where the store no longer takes it at the one that was given."""
        for num_left in reversed(range(NUM_ADDRESSES)):
            try:
                await self._connection.call(upload.request(part), ignored)
            except ServiceError as error:
                signed = not part.href.startswith("/")
                if num_left == 0 or not signed or error.problem.status not in EXPIRED:
                    raise
            else:
                return
            page = await self.dataset_parts(upload.dataset_id, after=part.number - 1, limit=1)
            part = page.items[0]


class _Sent:
    """How much has been sent, of several parts at a time."""

    def __init__(self, num_bytes: int, on_progress: OnBytes | None) -> None:
        self._num_bytes, self._on_progress = num_bytes, on_progress
        self._lock = threading.Lock()
        self._of_part: dict[int, int] = {}
        self._total, self._told = 0, -1
        self._stopped = False

    def set(self, number: int, num_bytes: int) -> None:
        """Say how much of a part has been sent."""
        with self._lock:
            if self._stopped:
                raise UploadStoppedError("the upload has ended")
            self._total += num_bytes - self._of_part.get(number, 0)
            self._of_part[number] = num_bytes
            if self._on_progress is not None and self._total > self._told:  # a part sent anew takes nothing back
                self._told = self._total
                self._on_progress(self._total, self._num_bytes)

    def stop(self) -> None:
        """Let the parts that are still being sent end with their next piece."""
        self._stopped = True


@dataclass(frozen=True)
class _Upload:
    """A dataset on its way.

    Attributes:
        part_bytes: Of every part but the last.
    """

    dataset_id: str
    archive: Path
    part_bytes: int
    sent: _Sent

    def request(self, part: UploadPart) -> Request:
        content = FileSlice(
            path=self.archive,
            offset=(part.number - 1) * self.part_bytes,
            num_bytes=part.num_bytes,
            on_sent=partial(self.sent.set, part.number),
        )
        return Request(method="PUT", target=part.href, content=content, timeout_s=PART_TIMEOUT_S)


def _size(archive: Path) -> int:
    num_bytes = archive.stat().st_size
    if num_bytes == 0:
        raise InvalidOptionError("the file is empty", got=str(archive), expected="a zip of class folders")
    return num_bytes


def _hash(archive: Path) -> str:
    with archive.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
