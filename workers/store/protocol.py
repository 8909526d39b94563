"""What every object store offers. Keys are relative, `/`-separated, and never leave the store's root."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """One object: its key and its size."""

    key: str
    num_bytes: int


class Store(Protocol):
    """Objects by key. Writes are atomic: a reader sees the old bytes or the new ones, never a part.

    Every method raises `StoreError` when the store fails or cannot be reached, and `InvalidOptionError` for a key that
    is empty, absolute or climbs with `..`.
    """

    @property
    def url(self) -> str:
        """The address that `open_store` takes to open this store again; holds no secret."""
        ...

    def put_bytes(self, key: str, data: bytes, *, media_type: str = "application/octet-stream") -> None: ...

    def put_file(self, key: str, path: Path, *, media_type: str = "application/octet-stream") -> None: ...

    def get_bytes(self, key: str) -> bytes:
        """Return an object's bytes. Raises `ObjectMissingError` where there is none."""
        ...

    def get_file(self, key: str, path: Path) -> None:
        """Write an object to a local file in constant memory. Raises `ObjectMissingError` where there is none."""
        ...

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield an object's bytes from `start` on, in chunks. Raises `ObjectMissingError` where there is none."""
        ...

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes, or None where there is none."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with `prefix`, in the order of their keys."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""
        ...
