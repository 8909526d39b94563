"""Objects as files below one folder."""

import errno
import hashlib
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import ObjectMissingError, StoreError
from workers.store.keys import FOREIGN, PARTIAL, check_key, check_prefix, is_key
from workers.store.multipart import MultipartUpload, StoredPart, check_number, check_whole, part_bytes_of
from workers.store.protocol import StoredObject
from workers.store.walk import files_in_order

CHUNK_BYTES = 1 << 20
LEFT_BEHIND_S = 86_400.0
# Of another file system, or of one without links.
NOT_LINKED = frozenset({errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK})
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")

logger = logging.getLogger(__name__)


class FolderStore:
    """A store in a local folder; several processes may use it at once.

    A write goes to a file of its own in `.partial`, is flushed to the disk, and is renamed over the object. A process
    that dies while writing leaves that file behind and the object as it was; `sweep` removes it later. The parts of an
    upload wait in a folder of their own there; completing it writes them once more, as one file.

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

    @property
    def folder(self) -> Path:
        """Where the objects lie."""
        return self._root

    def sweep(self, *, keep: Iterable[tuple[str, str]] = (), left_behind_s: float = LEFT_BEHIND_S) -> None:
        """Remove what was begun and never finished: older files, and uploads that got no part for so many seconds.

        Args:
            keep: Key and id of each upload that somebody still means to complete, however long that has waited.
            left_behind_s: How old what is removed must be.
        """
        kept = {_upload_name(key, upload_id) for key, upload_id in keep}
        with _write_errors(PARTIAL):
            for partial in (self._root / PARTIAL).glob("*"):
                with suppress(FileNotFoundError):  # of a writer that has just finished
                    if partial.name not in kept and partial.stat().st_mtime < time.time() - left_behind_s:
                        if partial.is_dir():
                            shutil.rmtree(partial)
                        else:
                            partial.unlink()

    @property
    def url(self) -> str:
        return self._root.as_uri()

    def put_bytes(self, key: str, data: bytes, *, media_type: str = "application/octet-stream") -> None:
        del media_type  # a file system keeps none
        self._put(key, lambda target: target.write(data))

    def put_file(
        self, key: str, path: Path, *, media_type: str = "application/octet-stream", hand_over: bool = False
    ) -> None:
        del media_type
        target = self._path(key)
        with _write_errors(key), self._partial() as partial:
            _take_over(path, partial) if hand_over else _copy(path, partial)
            self._publish(partial, target)

    def get_bytes(self, key: str) -> bytes:
        path = self._path(key)
        with _read_errors(key):
            return path.read_bytes()

    def get_file(self, key: str, path: Path) -> None:
        chunks = self.read(key)
        with path.open("wb") as target:
            target.writelines(chunks)

    def local_path(self, key: str) -> Path:
        if self.size(key) is None:
            raise _missing(key)
        return self._path(key)

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

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        check_prefix(prefix)
        check_prefix(after)
        with _read_errors(prefix):
            for key, path in files_in_order(self._root, prefix=prefix, after=after, left_out=PARTIAL):
                if not is_key(key):
                    logger.warning(FOREIGN, key)
                    continue
                try:
                    file = path.stat()
                except (FileNotFoundError, NotADirectoryError):  # deleted since
                    continue
                yield StoredObject(key=key, num_bytes=file.st_size, modified_at=file.st_mtime, version=_version(file))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _read_errors(key):
            if path.is_file():
                path.unlink(missing_ok=True)
                self._remove_empty(path.parent)

    def copy(self, source_key: str, target_key: str) -> None:
        source = self._path(source_key)
        check_key(target_key)
        # Not a link: two keys of one file would be of one age, and a copy is as new as what is written anew.
        with _read_errors(source_key), source.open("rb") as data:
            self._put(target_key, lambda target: shutil.copyfileobj(data, target, CHUNK_BYTES))

    def presigned_get(self, key: str, *, expires_s: int, filename: str, media_type: str) -> None:
        del expires_s, filename, media_type  # a folder has no address
        check_key(key)

    def begin_upload(
        self, key: str, *, num_bytes: int, media_type: str = "application/octet-stream"
    ) -> MultipartUpload:
        del media_type
        upload = MultipartUpload(id=uuid.uuid4().hex, part_bytes=part_bytes_of(num_bytes))
        with _write_errors(key):
            self._upload(key, upload.id).mkdir(parents=True)
        return upload

    def presigned_part(self, key: str, upload_id: str, number: int, *, num_bytes: int, expires_s: int) -> None:
        del upload_id, num_bytes, expires_s
        check_key(key)
        check_number(number)

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | Path) -> None:
        path = self._part(key, upload_id, check_number(number))
        with _write_errors(key), self._partial() as partial:
            _take_over(data, partial) if isinstance(data, Path) else _write(partial, lambda target: target.write(data))
            try:
                partial.replace(path)
                _sync(path.parent)
            except FileNotFoundError as error:
                raise _no_upload(key) from error

    def parts(self, key: str, upload_id: str) -> tuple[StoredPart, ...]:
        try:
            with _read_errors(key):
                folder = self._upload(key, upload_id)
                paths = sorted(folder.iterdir())
                parts = tuple(StoredPart(number=int(path.name), num_bytes=path.stat().st_size) for path in paths)
                folder.stat()  # gone meanwhile: what was listed need not be all of it
                return parts
        except ObjectMissingError as error:
            raise _no_upload(key) from error

    def complete_upload(self, key: str, upload_id: str, *, num_bytes: int) -> None:
        try:
            parts = self.parts(key, upload_id)
            check_whole(parts, num_bytes)
            paths = [self._part(key, upload_id, part.number) for part in parts]
            self._put(key, lambda target: _join(key, paths, target, num_bytes))
        except ObjectMissingError:
            # Completed by another call, before this one or beside it.
            if self.size(key) != num_bytes:
                raise
        self.abort_upload(key, upload_id)

    def abort_upload(self, key: str, upload_id: str) -> None:
        # Away in one step: nobody who completes it beside this call sees some of its parts only.
        aside = self._root / PARTIAL / uuid.uuid4().hex
        with _write_errors(key), suppress(ObjectMissingError, FileNotFoundError):
            self._upload(key, upload_id).rename(aside)
            shutil.rmtree(aside)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _upload(self, key: str, upload_id: str) -> Path:
        """Return the folder of an upload's parts."""
        check_key(key)
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise _no_upload(key)
        return self._root / PARTIAL / _upload_name(key, upload_id)

    def _part(self, key: str, upload_id: str, number: int) -> Path:
        return self._upload(key, upload_id) / f"{number:05d}"

    def _chunks(self, key: str, start: int, length: int | None) -> Iterator[bytes]:
        with _read_errors(key), self._path(key).open("rb") as source:
            source.seek(start)
            left = length
            while chunk := source.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
                yield chunk
                left = None if left is None else left - len(chunk)

    def _put(self, key: str, write: Callable[[BinaryIO], object]) -> None:
        path = self._path(key)
        with _write_errors(key), self._partial() as partial:
            _write(partial, write)
            self._publish(partial, path)

    @contextmanager
    def _partial(self) -> Iterator[Path]:
        """Yield the path of a file to write; what is left of it in the end is removed."""
        partial = self._root / PARTIAL / uuid.uuid4().hex
        partial.parent.mkdir(exist_ok=True)
        try:
            yield partial
        finally:
            partial.unlink(missing_ok=True)

    def _publish(self, partial: Path, path: Path) -> None:
        try:
            _move(partial, path)
        except (FileNotFoundError, FileExistsError):  # a folder that was empty has just been removed
            _move(partial, path)
        with suppress(FileNotFoundError):  # the object has just been deleted
            _sync(path.parent)

    def _remove_empty(self, folder: Path) -> None:
        """Remove a folder and those above it, up to the root, as far as nothing is in them."""
        with suppress(OSError):
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent


def _upload_name(key: str, upload_id: str) -> str:
    """Return the name of the folder of an upload's parts. It holds the key too: an upload is of one object only."""
    return f"{upload_id}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _move(partial: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(path)


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a new file, and have it on the disk when this returns."""
    with path.open("xb") as target:
        write(target)
        target.flush()
        os.fsync(target.fileno())


def _copy(source: Path, path: Path) -> None:
    """Write a new file with the bytes of another."""
    with source.open("rb") as data:
        _write(path, lambda target: shutil.copyfileobj(data, target, CHUNK_BYTES))


def _take_over(source: Path, path: Path) -> None:
    """Make a file a new one of another name, as new as if it were written now; where that cannot be, copy it."""
    try:
        os.link(source, path)
    except OSError as error:
        if error.errno not in NOT_LINKED:
            raise
        _copy(source, path)
        return
    os.utime(path)
    _sync(path)


def _join(key: str, paths: Iterable[Path], target: BinaryIO, num_bytes: int) -> None:
    for path in paths:
        with _read_errors(key), path.open("rb") as part:
            shutil.copyfileobj(part, target, CHUNK_BYTES)
    if target.tell() != num_bytes:
        raise StoreError(
            "a part of the upload changed its size while it was completed",
            got=f"{target.tell()} bytes",
            expected=f"{num_bytes} bytes",
            todo="Send the parts and complete it again.",
        )


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk: a rename lasts through a power cut once both are."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _version(file: os.stat_result) -> str:
    """Return what no other file under this name has had: each write makes a file, and nobody sets its `ctime`."""
    return f"{file.st_ino:x}-{file.st_ctime_ns:x}"


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


def _no_upload(key: str) -> ObjectMissingError:
    return ObjectMissingError("the store has no such upload", got=key, todo="Begin another one.")
