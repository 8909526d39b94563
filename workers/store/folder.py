"""Objects as files below one folder."""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import ObjectMissingError, StoreError
from workers.store.keys import PARTIAL, check_key, check_prefix
from workers.store.protocol import StoredObject

CHUNK_BYTES = 1 << 20
LEFT_BEHIND_S = 86_400.0


class FolderStore:
    """A store in a local folder; several processes may use it at once.

    A write goes to a file of its own in `.partial`, is flushed to the disk, and is renamed over the object. A process
    that dies while writing leaves that file behind and the object as it was; `sweep` removes it later.

    Args:
        root: A folder on one file system.
        create: Make the folder where it is missing.

    Raises:
        StoreError: `root` is no folder, or cannot be made one.
    """

    def __init__(self, root: Path, *, create: bool = False) -> None:
        self._root = root.absolute()
        if create:
            with _write_errors(str(root)):
                self._root.mkdir(parents=True, exist_ok=True)
        if not self._root.is_dir():
            raise StoreError(
                "the store's folder does not exist", got=str(self._root), todo="Create it, or mend the URL."
            )

    def sweep(self) -> None:
        """Remove what processes that died while writing left behind: unfinished files older than a day."""
        with _write_errors(PARTIAL):
            for partial in (self._root / PARTIAL).glob("*"):
                with suppress(FileNotFoundError):  # of a writer that has just finished
                    if partial.stat().st_mtime < time.time() - LEFT_BEHIND_S:
                        partial.unlink()

    @property
    def url(self) -> str:
        return self._root.as_uri()

    def put_bytes(self, key: str, data: bytes, *, media_type: str = "application/octet-stream") -> None:
        del media_type  # a file system keeps none
        self._put(key, lambda target: target.write(data))

    def put_file(self, key: str, path: Path, *, media_type: str = "application/octet-stream") -> None:
        del media_type
        with path.open("rb") as source:
            self._put(key, lambda target: shutil.copyfileobj(source, target, CHUNK_BYTES))

    def get_bytes(self, key: str) -> bytes:
        path = self._path(key)
        with _read_errors(key):
            return path.read_bytes()

    def get_file(self, key: str, path: Path) -> None:
        chunks = self.read(key)
        with path.open("wb") as target:
            target.writelines(chunks)

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if start < 0 or (length is not None and length < 0):
            raise InvalidOptionError("a byte range cannot be negative", got=(start, length))
        # A missing object is told now, not when the first chunk is asked for; the file is opened only then, so that
        # an iterator nobody starts leaves nothing open.
        if self.size(key) is None:
            raise _missing(key)
        return self._chunks(key, start, length)

    def size(self, key: str) -> int | None:
        path = self._path(key)
        try:
            with _read_errors(key):
                return path.stat().st_size if path.is_file() else None
        except ObjectMissingError:
            return None

    def list(self, prefix: str) -> Iterator[StoredObject]:
        check_prefix(prefix)
        folder = self._root / prefix.rpartition("/")[0]
        found = []
        with _read_errors(prefix):
            for parent, folders, names in os.walk(folder, onerror=_tell_unless_gone):
                if Path(parent) == self._root and PARTIAL in folders:
                    folders.remove(PARTIAL)
                found += [key for name in names if (key := self._key(parent, name)).startswith(prefix)]
        # The order of keys is that of S3: by characters of the whole key, which a walk by folders does not give.
        for key in sorted(found):
            num_bytes = self.size(key)
            if num_bytes is not None:
                yield StoredObject(key=key, num_bytes=num_bytes)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _read_errors(key):
            if path.is_file():
                path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _key(self, parent: str, name: str) -> str:
        return (Path(parent) / name).relative_to(self._root).as_posix()

    def _chunks(self, key: str, start: int, length: int | None) -> Iterator[bytes]:
        with _read_errors(key), self._path(key).open("rb") as source:
            source.seek(start)
            left = length
            while chunk := source.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
                yield chunk
                left = None if left is None else left - len(chunk)

    def _put(self, key: str, write: Callable[[BinaryIO], object]) -> None:
        path = self._path(key)
        partial = self._root / PARTIAL / uuid.uuid4().hex
        with _write_errors(key):
            partial.parent.mkdir(exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("xb") as target:
                    write(target)
                    target.flush()
                    os.fsync(target.fileno())
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut: the folder's own entry has to reach the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tell_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


@contextmanager
def _read_errors(key: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise _missing(key) from error
    except OSError as error:
        raise _failed(key, error) from error


@contextmanager
def _write_errors(key: str) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise StoreError(
            "a folder store cannot hold an object under a key that continues, or is continued by, another object's key",
            got=key,
            todo="Choose another key.",
        ) from error
    except OSError as error:
        raise _failed(key, error) from error


def _failed(key: str, error: OSError) -> StoreError:
    todo = "Check the free space, the disk, and the permissions of the store's folder."
    return StoreError(f"the store's folder failed ({error.strerror})", got=key, todo=todo)


def _missing(key: str) -> ObjectMissingError:
    return ObjectMissingError("the store has no such object", got=key)
