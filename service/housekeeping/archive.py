"""A backup on the disk.

| file | holds |
|---|---|
| `records/TABLE.jsonl` | the rows of a table, one a line |
| `objects/KEY` | an object of the store |
| `objects.jsonl` | key, size, SHA-256 and version of each object, in the order of keys |
| `manifest.json` | sizes and hashes of records and list, written last: without it, there is no backup |

The hash of an object is that of the bytes that were copied. Its version is what the store said of them then: whoever
brings the backup up to date keeps what is listed with the version that the store still has.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from search_spaces.errors import ArchPriorError
from workers.contracts.base import Contract
from workers.store.keys import check_key

FORMAT_VERSION: Final = 2
"""The first one knew no versions of objects."""
MANIFEST: Final = "manifest.json"
RECORDS: Final = "records"
OBJECTS: Final = "objects"
LISTED: Final = "objects.jsonl"
PARTIAL: Final = "partial"
OWN_NAMES: Final = frozenset({MANIFEST, RECORDS, OBJECTS, LISTED, PARTIAL})


class InvalidBackupError(ArchPriorError):
    """A backup that cannot be restored."""

    code = "invalid_backup"


class Written(Contract):
    """A file's size and SHA-256."""

    num_bytes: int
    sha256: str


class ObjectEntry(Written):
    """An object of the store.

    Attributes:
        version: What the store called these bytes; empty: not known.
    """

    key: str
    version: str = ""

    def written(self) -> Written:
        """Return its size and hash alone."""
        return Written(num_bytes=self.num_bytes, sha256=self.sha256)


class BackupManifest(Contract):
    """What a backup holds.

    Attributes:
        revision: Of the records' tables.
        files: Of the records, and the list of objects, by their paths.
    """

    format_version: int = Field(FORMAT_VERSION, ge=1, le=FORMAT_VERSION)
    created_at: datetime
    archprior: str
    revision: str
    files: dict[str, Written]
    num_objects: int
    num_bytes: int


class Archive:
    """A backup's folder: only its owner can read what this writes there.

    Args:
        folder: That is its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder; one that holds a backup holds none from here on, until it has a manifest again.

        Raises:
            InvalidBackupError: It holds something else.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        foreign = sorted(path.name for path in self.folder.iterdir() if path.name not in OWN_NAMES)
        if foreign:
            todo = "Name a folder that is new, or empty, or holds a backup."
            raise InvalidBackupError("the folder holds something else than a backup", got=foreign[0], todo=todo)
        self.folder.chmod(0o700)
        (self.folder / MANIFEST).unlink(missing_ok=True)
        for name in (RECORDS, OBJECTS, PARTIAL):
            (self.folder / name).mkdir(exist_ok=True, mode=0o700)
        if self._begun.exists():
            self.write(self.path(LISTED), _lines(self._half()))
        for path in (self.folder / PARTIAL).iterdir():
            path.unlink()

    def path(self, name: str) -> Path:
        """Return the path of a file."""
        return self.folder / name

    def object_path(self, key: str) -> Path:
        """Return the path of an object. Raises `InvalidOptionError` for what is no key."""
        return self.folder / OBJECTS / check_key(key)

    def write(self, path: Path, chunks: Iterable[bytes], *, modified_at: float | None = None) -> Written:
        """Write a file, whole or not at all, and have it on the disk; return its size and hash."""
        partial = self.folder / PARTIAL / secrets.token_hex(8)
        try:
            written = _write(partial, chunks)
            if modified_at is not None:
                os.utime(partial, (modified_at, modified_at))
            _make_folders(path.parent)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return written

    def write_list(self, entries: Iterable[ObjectEntry]) -> Written:
        """List the objects as they come, in the order of their keys; until that is done, there is the list before."""
        written = _write(self._begun, _lines(entries))
        self._begun.replace(self.path(LISTED))
        return written

    def objects(self) -> Iterator[ObjectEntry]:
        """Yield the objects that are listed, in the order of their keys. Raises `InvalidBackupError`."""
        path = self.path(LISTED)
        try:
            yield from _read(path)
        except (FileNotFoundError, ValueError) as error:
            raise damaged(path) from error

    def known(self) -> Iterator[ObjectEntry]:
        """Yield the objects that were copied before, in the order of their keys: by a round that broke off, too.

        What cannot be read of the list is not known, and is copied again.
        """
        return _readable(self.path(LISTED))

    def manifest(self) -> BackupManifest:
        """Return the manifest.

        Raises:
            InvalidBackupError: There is none, it is damaged, or of a newer version.
        """
        path = self.path(MANIFEST)
        try:
            data = path.read_bytes()
            version = json.loads(data)["format_version"]
            if isinstance(version, int) and version > FORMAT_VERSION:
                expected = f"at most format_version {FORMAT_VERSION}"
                todo = "Restore it with that version, or a later one."
                raise InvalidBackupError(f"{path} is of a newer ArchPrior", got=version, expected=expected, todo=todo)
            return BackupManifest.model_validate_json(data)
        except FileNotFoundError:
            todo = "Name the folder of a backup; one that was broken off goes on when it is begun again."
            raise InvalidBackupError("there is no whole backup", got=str(self.folder), todo=todo) from None
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise damaged(path) from error

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines of a file of records."""
        with self.path(name).open(encoding="utf-8") as lines:
            yield from lines

    @property
    def _begun(self) -> Path:
        """A list that is being written, or was when its writer was killed."""
        return self.path(PARTIAL) / LISTED

    def _half(self) -> Iterator[ObjectEntry]:
        """Yield what a round has listed that broke off, and behind that what was listed before it."""
        last = ""
        for entry in _readable(self._begun):
            last = entry.key
            yield entry
        yield from (entry for entry in _readable(self.path(LISTED)) if entry.key > last)


def require(path: Path, told: Written) -> None:
    """Raise `InvalidBackupError` for a file that is not what the backup says of it."""
    if measure(path) != told:
        raise damaged(path)


def written_of(chunks: Iterable[bytes]) -> Written:
    """Return the size and hash of bytes, in constant memory."""
    digest, num_bytes = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        num_bytes += len(chunk)
    return Written(num_bytes=num_bytes, sha256=digest.hexdigest())


def measure(path: Path) -> Written | None:
    """Return a file's size and hash; None where there is none."""
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return Written(num_bytes=os.fstat(file.fileno()).st_size, sha256=sha256)
    except FileNotFoundError:
        return None


def damaged(path: Path) -> InvalidBackupError:
    """Return the refusal of a file of a backup that is missing, or is not as it was written."""
    return InvalidBackupError("a file of the backup is damaged or missing", got=str(path), todo="Use another backup.")


def _write(path: Path, chunks: Iterable[bytes]) -> Written:
    digest, num_bytes = hashlib.sha256(), 0
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
        for chunk in chunks:
            digest.update(chunk)
            num_bytes += len(chunk)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    return Written(num_bytes=num_bytes, sha256=digest.hexdigest())


def _read(path: Path) -> Iterator[ObjectEntry]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield ObjectEntry.model_validate_json(line)


def _readable(path: Path) -> Iterator[ObjectEntry]:
    with suppress(FileNotFoundError, ValueError):  # there is none, or its writer was killed within a line
        yield from _read(path)


def _lines(entries: Iterable[ObjectEntry]) -> Iterator[bytes]:
    return (f"{entry.model_dump_json()}\n".encode() for entry in entries)


def _make_folders(folder: Path) -> None:
    if not folder.is_dir():
        _make_folders(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
