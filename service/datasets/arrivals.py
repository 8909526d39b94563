"""Datasets that do not come with one request: those that arrive in parts, and those that the service copies."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.datasets.names import UNNAMED, display_name, name_of_file
from service.datasets.sources import Sources
from service.datasets.views import dataset_path, num_parts_of
from service.disk import Disk
from service.errors import ConflictError, InvalidRequestError, NotFoundError, TooLargeError
from service.http.fields import parse_fields
from service.http.idempotency import once
from service.http.problems import problem_of
from service.quotas import Usage
from service.records.datasets import SAID, DatasetRecords, new_dataset_id
from service.records.model import Arrival, DatasetEntry
from service.schemas import DatasetBegin, DatasetSource, UploadPart, UploadPartPage
from workers.contracts.errors import InvalidDatasetError
from workers.store import layout
from workers.store.multipart import check_whole, exceed
from workers.store.protocol import Store

LINK_EXPIRES_S: Final = 6 * 3600
"""For how long a part may be sent to the address that the service names; the list names new ones."""


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """Begins and completes them; whether they are datasets is found out by the checker.

    Attributes:
        datasets: Records of datasets.
        store: Where the parts go.
        store_disk: On which the store lies; None: on none of this machine.
        sources: From which may be copied.
        max_bytes: Largest archive that is taken.
    """

    datasets: DatasetRecords
    store: Store
    store_disk: Disk | None
    sources: Sources
    max_bytes: int

    def begin(self, fields: Mapping[str, object], *, owner: str, key: str | None = None) -> DatasetEntry:
        """Return a new dataset whose parts may be sent now. The same fields with the same `key` make no second one.

        Raises:
            InvalidRequestError: Fields that are not known, or wrong values.
            TooLargeError: It has more bytes than are taken.
            IdempotencyKeyReusedError: Another request had this key.
            QuotaExceededError: Its owner may not have so many bytes, or datasets that arrive.
        """
        asked = parse_fields(DatasetBegin, fields)
        first = once(key, operation="begin_dataset", request=asked)
        made = self.datasets.made_by(first, owner=owner)
        if made is not None:
            return made
        self._require_room(asked.num_bytes, owner=owner)
        dataset_id = new_dataset_id()
        place = layout.upload(dataset_id)
        upload = self.store.begin_upload(place, num_bytes=asked.num_bytes, media_type="application/zip")
        arrival = _arrival(asked).model_copy(update={"upload_id": upload.id, "part_bytes": upload.part_bytes})
        recorded_id = None
        try:
            entry = self.datasets.expect(
                dataset_id,
                name=arrival.name or UNNAMED,
                num_bytes=asked.num_bytes,
                arrival=arrival,
                owner=owner,
                declared_sha256=asked.sha256,
                once=first,
            )
            recorded_id = entry.id
        finally:
            if recorded_id != dataset_id:  # refused, or another request was faster
                self.store.abort_upload(place, upload.id)
        return entry

    def copy(self, fields: Mapping[str, object], *, owner: str, key: str | None = None) -> DatasetEntry:
        """Return a new dataset that is copied and checked from now on; `key` as of `begin`.

        Raises:
            InvalidRequestError: Fields that are not known, wrong values, or no such object.
            ForbiddenError: Nothing may be copied from there.
            TooLargeError: It has more bytes than are taken.
            IdempotencyKeyReusedError: Another request had this key.
            QuotaExceededError: Its owner may not have so many bytes, or datasets that arrive.
        """
        asked = parse_fields(DatasetSource, fields)
        first = once(key, operation="copy_dataset", request=asked)
        made = self.datasets.made_by(first, owner=owner)
        if made is not None:
            return made
        num_bytes = self.sources.size(asked.source)
        if num_bytes == 0:
            raise InvalidRequestError("the object is empty", got=asked.source, expected="a zip")
        self._require_room(num_bytes, owner=owner)
        arrival = _arrival(asked)
        return self.datasets.expect(
            new_dataset_id(),
            name=arrival.name or name_of_file(asked.source),
            num_bytes=num_bytes,
            arrival=arrival,
            owner=owner,
            source=asked.source,
            once=first,
        )

    def parts(self, dataset_id: str, *, owner: str, after: int, limit: int) -> UploadPartPage:
        """Return where the parts after that number are to be sent, and whether they have arrived.

        Raises:
            NotFoundError: There is no such dataset.
            ConflictError: It does not arrive in parts, or has arrived.
        """
        entry, upload_id, part_bytes = self._arriving(dataset_id, owner=owner)
        place, num_parts = layout.upload(entry.id), num_parts_of(entry.num_bytes, part_bytes)
        arrived = {part.number: part.num_bytes for part in self.store.parts(place, upload_id)}
        last = min(num_parts, after + limit)
        items = []
        for number in range(after + 1, last + 1):
            num_bytes = _part_bytes(entry, part_bytes, number)
            link = self.store.presigned_part(place, upload_id, number, num_bytes=num_bytes, expires_s=LINK_EXPIRES_S)
            href = link or f"{dataset_path(entry.id)}/parts/{number}"
            items.append(
                UploadPart(number=number, num_bytes=num_bytes, href=href, arrived=arrived.get(number) == num_bytes)
            )
        return UploadPartPage(items=tuple(items), next_after=last if after < last < num_parts else None)

    def part_bytes(self, dataset_id: str, number: int, *, owner: str) -> int:
        """Return how many bytes a part has.

        Raises:
            NotFoundError: There is no such dataset, or no part of that number.
            ConflictError: It does not arrive in parts, or has arrived.
        """
        entry, _, part_bytes = self._arriving(dataset_id, owner=owner)
        num_parts = num_parts_of(entry.num_bytes, part_bytes)
        if not 1 <= number <= num_parts:
            raise NotFoundError("no part has that number", got=number, expected=f"1 to {num_parts}")
        return _part_bytes(entry, part_bytes, number)

    def put_part(self, dataset_id: str, number: int, path: Path, *, owner: str) -> None:
        """Store a part that was received as a file; it may come again.

        Raises:
            NotFoundError: There is no such dataset.
            ConflictError: It does not arrive in parts, or has arrived.
            DiskFullError: The store's disk has no room for it.
            StoreError: The store failed.
        """
        entry, upload_id, _ = self._arriving(dataset_id, owner=owner)
        if self.store_disk is not None:
            self.store_disk.require(path.stat().st_size)
        self.store.put_part(layout.upload(entry.id), upload_id, number, path)

    def complete(self, dataset_id: str, *, owner: str) -> DatasetEntry:
        """Return a dataset that is checked from now on; completing again changes nothing.

        Raises:
            NotFoundError: There is no such dataset.
            InvalidOptionError: Parts are missing or of another size; names their numbers.
            InvalidDatasetError: Parts are larger than was said: all of them are removed, and the dataset is REJECTED.
        """
        entry = self.datasets.entry(dataset_id, owner=owner)
        if entry.state == "UPLOADING":
            entry, upload_id, _ = self._arriving(dataset_id, owner=owner)
            parts = self.store.parts(layout.upload(entry.id), upload_id)
            if exceed(parts, entry.num_bytes):
                raise self._rejected(entry, upload_id)
            check_whole(parts, entry.num_bytes)
            self.datasets.completed(entry)
        return self.datasets.entry(dataset_id, owner=owner)

    def _rejected(self, entry: DatasetEntry, upload_id: str) -> InvalidDatasetError:
        """Refuse a dataset of which more has come than its owner has said, which no quota knows of.

        The service takes no such part, nor does S3. A server that heeds no signed sizes does.
        """
        error = InvalidDatasetError(
            "parts of the upload are larger than was said when it was begun",
            got=entry.id,
            expected=f"{entry.num_bytes} bytes in all",
            todo="Begin another one with its real size.",
        )
        if self.datasets.rejected(entry, problem_of(error)):
            self.store.abort_upload(layout.upload(entry.id), upload_id)
        return error

    def _arriving(self, dataset_id: str, *, owner: str) -> tuple[DatasetEntry, str, int]:
        """Return a dataset that arrives in parts, the store's name of its upload, and the size of its parts."""
        entry = self.datasets.entry(dataset_id, owner=owner)
        arrival = entry.arrival
        if entry.state != "UPLOADING" or arrival is None or arrival.upload_id is None or arrival.part_bytes is None:
            raise ConflictError(
                f"no part of the dataset is awaited: it is {entry.state}",
                got=dataset_id,
                todo="POST /v1/datasets with num_bytes begins another one.",
            )
        return entry, arrival.upload_id, arrival.part_bytes

    def _require_room(self, num_bytes: int, *, owner: str) -> None:
        if num_bytes > self.max_bytes:
            raise TooLargeError(
                "the dataset is too large",
                got=f"{num_bytes} bytes",
                expected=f"at most {self.max_bytes} bytes",
                todo="Send fewer or smaller images, or raise ARCHPRIOR_MAX_DATASET_BYTES.",
            )
        self.datasets.require_room(Usage(num_bytes=num_bytes, num_arriving=1), owner=owner)


def _arrival(asked: DatasetBegin | DatasetSource) -> Arrival:
    said = asked.model_dump(include=SAID)
    return Arrival.model_validate({**said, "name": display_name(asked.name) if asked.name else None})


def _part_bytes(entry: DatasetEntry, part_bytes: int, number: int) -> int:
    return min(part_bytes, entry.num_bytes - (number - 1) * part_bytes)
