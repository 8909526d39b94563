"""Objects in a bucket of any S3 server."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import ObjectMissingError, StoreError
from workers.store.keys import check_key, check_prefix
from workers.store.protocol import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3.literals import BucketLocationConstraintType

CHUNK_BYTES = 1 << 20
PART_BYTES = 16 << 20

_MISSING_OBJECT = {"NoSuchKey", "404", "NotFound"}
_REFUSED = {"403", "401", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_PAST_THE_END = {"InvalidRange", "416"}


class _PastTheEndError(StoreError):
    """A range that begins where the object has ended: nothing to read."""


class _AlreadyThereError(StoreError):
    """Somebody else has made the bucket since we looked."""


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
        create: Make the bucket where it is missing.

    Raises:
        StoreError: The bucket is missing, or the server refuses or cannot be reached.
    """

    def __init__(self, bucket: str, prefix: str = "", *, endpoint_url: str | None = None, create: bool = False) -> None:
        self._bucket = bucket
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self._endpoint = endpoint_url or "Amazon S3"
        config = Config(
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=32,
            retries={"mode": "standard", "total_max_attempts": 5},
            # Servers other than Amazon's know buckets by path only, and not all of them the newer checksums.
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        with self._errors(bucket):
            self._client = boto3.session.Session().client("s3", endpoint_url=endpoint_url, config=config)
        self._transfer = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)
        self._open_bucket(create)

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put_bytes(self, key: str, data: bytes, *, media_type: str = "application/octet-stream") -> None:
        name = self._name(key)
        with self._errors(key):
            self._client.put_object(Bucket=self._bucket, Key=name, Body=data, ContentType=media_type)

    def put_file(self, key: str, path: Path, *, media_type: str = "application/octet-stream") -> None:
        name = self._name(key)
        with self._errors(key), path.open("rb") as source:
            self._client.upload_fileobj(
                source, self._bucket, name, ExtraArgs={"ContentType": media_type}, Config=self._transfer
            )

    def get_bytes(self, key: str) -> bytes:
        name = self._name(key)
        with self._errors(key), closing(self._client.get_object(Bucket=self._bucket, Key=name)["Body"]) as body:
            return body.read()

    def get_file(self, key: str, path: Path) -> None:
        name = self._name(key)
        with self._errors(key):
            self._client.download_file(self._bucket, name, str(path), Config=self._transfer)

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if start < 0 or (length is not None and length < 0):
            raise InvalidOptionError("a byte range cannot be negative", got=(start, length))
        # A missing object is told now, not when the first chunk is asked for.
        if self.size(key) is None:
            raise _missing(key)
        return self._chunks(key, start, length)

    def size(self, key: str) -> int | None:
        name = self._name(key)
        try:
            with self._errors(key):
                return self._client.head_object(Bucket=self._bucket, Key=name)["ContentLength"]
        except ObjectMissingError:
            return None

    def list(self, prefix: str) -> Iterator[StoredObject]:
        check_prefix(prefix)
        pages = self._client.get_paginator("list_objects_v2")
        last = ""
        with self._errors(prefix):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for entry in page.get("Contents", ()):
                    # `rclone serve s3` names an object twice while it is being replaced.
                    if entry["Key"] != last:
                        last = entry["Key"]
                        yield StoredObject(key=last.removeprefix(self._prefix), num_bytes=entry["Size"])

    def delete(self, key: str) -> None:
        name = self._name(key)
        with self._errors(key):
            self._client.delete_object(Bucket=self._bucket, Key=name)

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

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
        except _PastTheEndError:
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
        except _AlreadyThereError:
            return

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise self._refusal(key, error) from error
        except NoCredentialsError as error:
            todo = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile in AWS_PROFILE."
            raise StoreError(f"no credentials for {self._endpoint}", todo=todo) from error
        except (BotoCoreError, Boto3Error) as error:
            todo = "Check that the server runs and that the endpoint is right."
            raise StoreError(f"{self._endpoint} failed ({error})", got=key, todo=todo) from error

    def _refusal(self, key: str, error: ClientError) -> StoreError:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _MISSING_OBJECT:
            return _missing(key)
        if code in _PAST_THE_END:
            return _PastTheEndError("a byte range past the object's end", got=key)
        if code == "BucketAlreadyOwnedByYou":
            return _AlreadyThereError("the bucket exists already", got=key)
        if code == "NoSuchBucket":
            return StoreError(f"no such bucket at {self._endpoint}", got=self._bucket, todo="Mend the store's URL.")
        if code in _REFUSED:
            todo = "Check the access key, its secret, and what they permit on this bucket."
            return StoreError(f"{self._endpoint} refused access ({code})", got=key, todo=todo)
        return StoreError(f"{self._endpoint} failed ({error})", got=key, todo="Look into the server's log.")


def _missing(key: str) -> ObjectMissingError:
    return ObjectMissingError("the store has no such object", got=key)
