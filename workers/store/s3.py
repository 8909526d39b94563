"""Objects in a bucket of any S3 server."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, suppress
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import ObjectMissingError, StoreError
from workers.store.keys import FOREIGN, check_key, check_prefix, is_key
from workers.store.multipart import (
    PART_BYTES,
    MultipartUpload,
    StoredPart,
    check_number,
    check_whole,
    part_bytes_of,
)
from workers.store.options import S3Options, Waits
from workers.store.protocol import StoredObject
from workers.store.s3_errors import AlreadyThereError, PastTheEndError, missing, store_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import BucketLocationConstraintType, ServerSideEncryptionType
    from mypy_boto3_s3.type_defs import PartTypeDef

CHUNK_BYTES = 1 << 20
MAX_COPIED_BYTES = 5 << 30
"""What S3 copies by one request; more is copied in parts, which not all servers can."""

logger = logging.getLogger(__name__)


class _Encryption(TypedDict, total=False):
    ServerSideEncryption: "ServerSideEncryptionType"
    SSEKMSKeyId: str


class S3Store:
    """A store in a bucket, below a prefix; threads may share it.

    Credentials and region come from boto3's own chain (environment, profile, instance role). Files above 16 MiB go up
    in parts. S3 makes each write atomic; nothing here rests on conditional writes, which some servers do not enforce.
    While two writers replace one object, `rclone serve s3` may deny for a moment that it exists: give each key one
    writer, as `layout` does.

    Args:
        bucket: An existing bucket.
        prefix: What all keys begin with, without a slash at either end; may be empty.
        endpoint_url: Of the server; None: Amazon's.
        options: How to speak with it.
        create: Make the bucket where it is missing.

    Raises:
        StoreError: The bucket is missing, or the server refuses or cannot be reached.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        options: S3Options | None = None,
        create: bool = False,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self._endpoint = endpoint_url or "Amazon S3"
        self._options = options or S3Options()
        self._encryption: _Encryption = {}
        if self._options.sse is not None:
            self._encryption["ServerSideEncryption"] = self._options.sse
        if self._options.sse_kms_key_id is not None:
            self._encryption["SSEKMSKeyId"] = self._options.sse_kms_key_id
        with self._errors(bucket):
            self._transfers = self._new_client(endpoint_url, self._options.waits)
            self._client = self._transfers
            if self._options.at_once is not None:
                self._client = self._new_client(endpoint_url, self._options.at_once)
        self._in_parts = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)
        self._open_bucket(create)

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put_bytes(self, key: str, data: bytes, *, media_type: str = "application/octet-stream") -> None:
        name = self._name(key)
        with self._errors(key):
            self._client.put_object(
                Bucket=self._bucket, Key=name, Body=data, ContentType=media_type, **self._encryption
            )

    def put_file(
        self, key: str, path: Path, *, media_type: str = "application/octet-stream", hand_over: bool = False
    ) -> None:
        del hand_over  # a server takes a copy
        name = self._name(key)
        # The manager reads the parts of a named file from the disk as they are sent; of an open file it would hold ten
        # in memory. The client's own `upload_file` turns a server's refusal into mere text.
        with self._errors(key), create_transfer_manager(self._transfers, self._in_parts) as manager:
            extra = {"ContentType": media_type, **self._encryption}
            manager.upload(str(path), self._bucket, name, extra_args=extra).result()

    def get_bytes(self, key: str) -> bytes:
        name = self._name(key)
        with self._errors(key), closing(self._client.get_object(Bucket=self._bucket, Key=name)["Body"]) as body:
            return body.read()

    def get_file(self, key: str, path: Path) -> None:
        name = self._name(key)
        with self._errors(key):
            self._transfers.download_file(self._bucket, name, str(path), Config=self._in_parts)

    def local_path(self, key: str) -> None:
        check_key(key)

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if start < 0 or (length is not None and length < 0):
            raise InvalidOptionError("a byte range cannot be negative", got=(start, length))
        # A missing object is told now, not when the first chunk is asked for.
        if self.size(key) is None:
            raise missing(key)
        return self._chunks(key, start, length)

    def size(self, key: str) -> int | None:
        name = self._name(key)
        try:
            with self._errors(key):
                return self._client.head_object(Bucket=self._bucket, Key=name)["ContentLength"]
        except ObjectMissingError:
            return None

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        check_prefix(prefix)
        check_prefix(after)
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix, StartAfter=self._prefix + after
        )
        last = ""
        with self._errors(prefix):
            for page in pages:
                for entry in page.get("Contents", ()):
                    # `rclone serve s3` names an object twice while it is being replaced.
                    if entry["Key"] == last:
                        continue
                    last = entry["Key"]
                    key = last.removeprefix(self._prefix)
                    if is_key(key):
                        yield StoredObject(
                            key=key,
                            num_bytes=entry["Size"],
                            modified_at=entry["LastModified"].timestamp(),
                            version=entry.get("ETag", "").strip('"'),
                        )
                    else:  # such as `folder/`, which consoles make
                        logger.warning(FOREIGN, key)

    def delete(self, key: str) -> None:
        name = self._name(key)
        with self._errors(key):
            self._client.delete_object(Bucket=self._bucket, Key=name)

    def copy(self, source_key: str, target_key: str) -> None:
        source, target = self._name(source_key), self._name(target_key)
        with self._errors(source_key):
            self._transfers.copy(
                {"Bucket": self._bucket, "Key": source},
                self._bucket,
                target,
                ExtraArgs={**self._encryption},
                Config=TransferConfig(multipart_threshold=MAX_COPIED_BYTES, multipart_chunksize=MAX_COPIED_BYTES // 5),
            )

    def presigned_get(self, key: str, *, expires_s: int, filename: str, media_type: str) -> str | None:
        name = self._name(key)
        if self._public is None:
            return None
        told = {
            "ResponseContentDisposition": f'attachment; filename="{filename}"',
            "ResponseContentType": media_type,
        }
        with self._errors(key):
            return self._public.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": name, **told}, ExpiresIn=expires_s
            )

    def begin_upload(
        self, key: str, *, num_bytes: int, media_type: str = "application/octet-stream"
    ) -> MultipartUpload:
        name, part_bytes = self._name(key), part_bytes_of(num_bytes)
        with self._errors(key):
            begun = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=name, ContentType=media_type, **self._encryption
            )
        return MultipartUpload(id=begun["UploadId"], part_bytes=part_bytes)

    def presigned_part(self, key: str, upload_id: str, number: int, *, num_bytes: int, expires_s: int) -> str | None:
        name = self._name(key)
        part = {"Bucket": self._bucket, "Key": name, "UploadId": upload_id, "PartNumber": check_number(number)}
        part["ContentLength"] = num_bytes  # a header, which is signed
        if self._public is None:
            return None
        with self._errors(key):
            return self._public.generate_presigned_url("upload_part", Params=part, ExpiresIn=expires_s)

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | Path) -> None:
        name = self._name(key)
        check_number(number)
        with self._errors(key), data.open("rb") if isinstance(data, Path) else BytesIO(data) as body:
            self._client.upload_part(Bucket=self._bucket, Key=name, UploadId=upload_id, PartNumber=number, Body=body)

    def parts(self, key: str, upload_id: str) -> tuple[StoredPart, ...]:
        return tuple(map(_stored, self._part_entries(key, upload_id)))

    def complete_upload(self, key: str, upload_id: str, *, num_bytes: int) -> None:
        name = self._name(key)
        try:
            entries = self._part_entries(key, upload_id)
            check_whole(tuple(map(_stored, entries)), num_bytes)
            with self._errors(key):
                self._transfers.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=name,
                    UploadId=upload_id,
                    MultipartUpload={
                        "Parts": [{"PartNumber": entry["PartNumber"], "ETag": entry["ETag"]} for entry in entries]
                    },
                )
        except ObjectMissingError:
            # Completed before, by a call whose answer was lost.
            if self.size(key) != num_bytes:
                raise

    def abort_upload(self, key: str, upload_id: str) -> None:
        name = self._name(key)
        with suppress(ObjectMissingError), self._errors(key):
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload_id)

    @cached_property
    def _public(self) -> "S3Client | None":
        """What signs addresses: a signature holds for the host it was made for."""
        url = self._options.public_endpoint_url
        return None if url is None else self._new_client(url, self._options.waits)

    def _new_client(self, endpoint_url: str | None, waits: Waits) -> "S3Client":
        config = Config(
            connect_timeout=waits.connect_timeout_s,
            read_timeout=waits.read_timeout_s,
            max_pool_connections=32,
            retries={"mode": "standard", "total_max_attempts": waits.max_attempts},
            signature_version="s3v4",
            # Servers other than Amazon's know buckets by path only, and not all of them the newer checksums.
            s3={"addressing_style": self._options.addressing_style or ("path" if endpoint_url else "auto")},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return boto3.session.Session().client("s3", endpoint_url=endpoint_url, config=config)

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _part_entries(self, key: str, upload_id: str) -> "tuple[PartTypeDef, ...]":
        name = self._name(key)
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=name, UploadId=upload_id)
        with self._errors(key):
            return tuple(entry for page in pages for entry in page.get("Parts", ()))

    def _chunks(self, key: str, start: int, length: int | None) -> Iterator[bytes]:
        if length == 0:
            return
        name, span = self._name(key), f"bytes={start}-{'' if length is None else start + length - 1}"
        try:
            with self._errors(key):
                # One request, so that an object replaced meanwhile is read whole: the old one or the new one.
                body = self._client.get_object(Bucket=self._bucket, Key=name, Range=span)["Body"]
                with closing(body):
                    yield from body.iter_chunks(CHUNK_BYTES)
        except PastTheEndError:
            return

    def _open_bucket(self, create: bool) -> None:
        try:
            with self._errors(self._bucket):
                self._client.head_bucket(Bucket=self._bucket)
        except ObjectMissingError:
            if not create:
                todo = "Create it, or mend the store's URL."
                raise StoreError(f"no such bucket at {self._endpoint}", got=self._bucket, todo=todo) from None
            self._create_bucket()

    def _create_bucket(self) -> None:
        region = self._client.meta.region_name
        try:
            with self._errors(self._bucket):
                if region in {"us-east-1", "aws-global"}:  # the one region that may not be named
                    self._client.create_bucket(Bucket=self._bucket)
                else:
                    where = cast("BucketLocationConstraintType", region)
                    self._client.create_bucket(
                        Bucket=self._bucket, CreateBucketConfiguration={"LocationConstraint": where}
                    )
        except AlreadyThereError:
            return

    def _errors(self, key: str) -> AbstractContextManager[None]:
        return store_errors(self._endpoint, self._bucket, key)


def _stored(entry: "PartTypeDef") -> StoredPart:
    return StoredPart(number=entry["PartNumber"], num_bytes=entry["Size"])
