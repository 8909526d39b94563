"""What every object store offers. Keys are relative, `/`-separated, and never leave the store's root."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workers.store.multipart import MultipartUpload, StoredPart


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """One object.

    Attributes:
        key: Of the object.
        num_bytes: Its size.
        modified_at: When it was written, in seconds since the epoch.
        version: What tells these bytes from others that lay, or will lie, under the key, in this store; empty: unknown.
    """

    key: str
    num_bytes: int
    modified_at: float
    version: str = ""


class Store(Protocol):
    """Objects by key. Writes are atomic: a reader sees the old bytes or the new ones, never a part.

    Every method raises `StoreError` when the store fails or cannot be reached, and `InvalidOptionError` for a key that
    is empty, absolute or climbs with `..`.

    A large object may arrive in parts: `begin_upload`, then its parts in any order and as often as need be, by
    `put_part` or by whoever holds a `presigned_part`, then `complete_upload`. Until then there is no object. What is
    begun and never completed is forgotten after a while.
    """

    @property
    def url(self) -> str:
        """The address that `open_store` takes to open this store again; holds no secret."""
        ...

    def put_bytes(self, key: str, data: bytes, *, media_type: str = "application/octet-stream") -> None: ...

    def put_file(
        self, key: str, path: Path, *, media_type: str = "application/octet-stream", hand_over: bool = False
    ) -> None:
        """Store a local file in constant memory.

        Args:
            key: Of the object.
            path: Of the file.
            media_type: Of the object.
            hand_over: Whether nobody writes to the file any more. A folder may then make it the object instead of a
                copy; its name may be removed all the same.
        """
        ...

    def get_bytes(self, key: str) -> bytes:
        """Return an object's bytes. Raises `ObjectMissingError` where there is none."""
        ...

    def get_file(self, key: str, path: Path) -> None:
        """Write an object to a local file in constant memory. Raises `ObjectMissingError` where there is none."""
        ...

    def local_path(self, key: str) -> Path | None:
        """Return the file in which an object lies, for whoever only reads it.

        Returns:
            Its path; None where objects are no files of this machine.

        Raises:
            ObjectMissingError: There is no such object, though it would be a file.
        """
        ...

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield an object's bytes from `start` on, in chunks. Raises `ObjectMissingError` where there is none."""
        ...

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes, or None where there is none."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with `prefix` and come behind the key `after`, in the order of keys.

        The order is by the characters of whole keys, which is that of their bytes in UTF-8. A list of any length takes
        constant memory, or that of one folder's names. What lies there under a name that is no key is told to the log
        and left out.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""
        ...

    def copy(self, source_key: str, target_key: str) -> None:
        """Store an object under another key too. S3 does so without moving its bytes through this process.

        Raises:
            ObjectMissingError: There is none to copy.
        """
        ...

    def presigned_get(self, key: str, *, expires_s: int, filename: str, media_type: str) -> str | None:
        """Return an address from which anyone may download an object, whether it is there or not.

        Args:
            key: Of the object.
            expires_s: Seconds for which a download may begin there.
            filename: What the downloaded file shall be called.
            media_type: What it shall be said to be.

        Returns:
            The address; None where the store has no public one: the bytes go through the service.
        """
        ...

    def begin_upload(
        self, key: str, *, num_bytes: int, media_type: str = "application/octet-stream"
    ) -> MultipartUpload:
        """Return an upload in parts of an object of that size.

        Raises:
            InvalidOptionError: `num_bytes` is not at least 1.
        """
        ...

    def presigned_part(self, key: str, upload_id: str, number: int, *, num_bytes: int, expires_s: int) -> str | None:
        """Return an address to which anyone may PUT a part; None where the store has no public one.

        The size is signed: S3 refuses a body of another one, or of none that is told before. A server that heeds no
        signed headers takes it, and completing finds out.

        Args:
            key: Of the object.
            upload_id: Of the upload.
            number: Of the part.
            num_bytes: Of the part.
            expires_s: Seconds for which it may be sent there.
        """
        ...

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | Path) -> None:
        """Store a part. The same one may be sent again; another one with its number is refused by some servers.

        Args:
            key: Of the object.
            upload_id: Of the upload.
            number: Of the part, from 1 on.
            data: The part's bytes, or a file of them that is handed over as to `put_file`.

        Raises:
            InvalidOptionError: No part has that number.
            ObjectMissingError: There is no such upload: it was completed, aborted, forgotten, or is of another key.
        """
        ...

    def parts(self, key: str, upload_id: str) -> tuple[StoredPart, ...]:
        """Return the parts that have arrived, in the order of their numbers. Raises as `put_part` does."""
        ...

    def complete_upload(self, key: str, upload_id: str, *, num_bytes: int) -> None:
        """Make the object of its parts. Completing twice does what completing once does.

        Raises:
            InvalidOptionError: The parts are not those of an object of that size; they stay, so that it can be mended.
            ObjectMissingError: There is no such upload, nor an object of that key and size.
        """
        ...

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Forget an upload and its parts; nothing happens where there is none."""
        ...
