"""All records and all objects of a service, copied to a folder and back.

The records come first, as they are at one moment; then the objects. Nothing that these records name is removed
meanwhile, as the backup holds the lease of housekeeping; what is added later does no harm. Restoring goes the other way
round: a record always has its bytes.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from search_spaces.errors import InvalidOptionError
from service.errors import ConflictError
from service.housekeeping import tenure
from service.housekeeping.archive import (
    LISTED,
    MANIFEST,
    OBJECTS,
    RECORDS,
    Archive,
    BackupManifest,
    InvalidBackupError,
    ObjectEntry,
    Written,
    measure,
    require,
)
from service.housekeeping.tenure import Tenure, holding, new_lease
from service.records.database import Database
from service.records.dump import dump, load, require_empty, require_known
from workers.contracts.errors import ObjectMissingError
from workers.store.folder import FolderStore
from workers.store.protocol import Store, StoredObject

Item = TypeVar("Item")
Result = TypeVar("Result")

NUM_THREADS: Final = 8
NUM_AHEAD: Final = 64
"""Objects that are being copied, or wait for it, at once."""
SAME_TIME_S: Final = 1e-3
"""File systems keep times more or less exactly."""


@dataclass
class Progress:
    """How many objects were copied so far, and how many of them lay there already."""

    num_objects: int = 0
    num_bytes: int = 0
    num_there: int = 0


Tell = Callable[[Progress], None]


def back_up(database: Database, store: Store, folder: Path, *, tell: Tell) -> BackupManifest:
    """Copy everything into a folder, and return what that is then. A service may run meanwhile; it removes nothing.

    A folder with an older backup, or with half of one, gets what it lacks; what is gone since goes from there, too.

    Args:
        database: Of the newest revision.
        store: Of the same service.
        folder: New, empty, or of a backup.
        tell: Is told how far it has come.

    Raises:
        ConflictError: Housekeeping or another backup is under way.
        InvalidBackupError: The folder holds something else.
        StoreError: The store failed; what was copied stays.
    """
    archive, began_at = Archive(folder), datetime.now(UTC)
    with holding(new_lease(database, holder="backup"), patience_s=tenure.PATIENCE_S) as held:
        archive.prepare()
        files: dict[str, Written] = {}

        def keep(table: str, lines: Iterator[str]) -> None:
            name = f"{RECORDS}/{table}.jsonl"
            files[name] = archive.write(archive.path(name), (f"{line}\n".encode() for line in lines))

        revision = dump(database, keep)
        progress = Progress()
        entries = _copied(store, archive, held, progress, tell)
        listed = (f"{entry.model_dump_json()}\n".encode() for entry in entries)
        files[LISTED] = archive.write(archive.path(LISTED), listed)
        for key in _not_in(_keys(archive), (entry.key for entry in archive.objects())):
            archive.object_path(key).unlink()
        held.check()
        manifest = BackupManifest(
            created_at=began_at,
            archprior=version("archprior"),
            revision=revision,
            files=files,
            num_objects=progress.num_objects,
            num_bytes=progress.num_bytes,
        )
        archive.write(archive.path(MANIFEST), [manifest.model_dump_json(indent=1).encode()])
    return manifest


def restore(database: Database, store: Store, folder: Path, *, tell: Tell) -> BackupManifest:
    """Bring a backup into empty records and an empty store, and return what it holds.

    One that was broken off can be begun again: records come last, all or none.

    Args:
        database: Of no service that runs.
        store: Of the same.
        folder: Of the backup.
        tell: Is told how far it has come.

    Raises:
        ConflictError: Records or store hold something.
        InvalidBackupError: The backup is damaged, not whole, or of a newer version; names the file.
        StoreError: The store failed.
    """
    archive = Archive(folder)
    manifest = archive.manifest()
    try:
        require_known(manifest.revision)
    except InvalidOptionError as error:
        todo = "Restore it with that version, or a later one."
        what = f"the records of {archive.path(MANIFEST)} are of a newer ArchPrior"
        raise InvalidBackupError(what, got=manifest.revision, todo=todo) from error
    for name, told in manifest.files.items():
        require(archive.path(name), told)
    require_empty(database)
    for key in _not_in((one.key for one in store.list("")), (entry.key for entry in archive.objects())):
        todo = "Restore into a new store; nothing that is there is replaced."
        raise ConflictError("the store is not empty", got=key, todo=todo)
    progress = Progress()
    for entry, was_there in _in_parallel(partial(_put, store, archive), archive.objects()):
        progress.num_objects += 1
        progress.num_bytes += entry.num_bytes
        progress.num_there += was_there
        tell(progress)
    tables = {
        Path(name).stem: partial(archive.lines, name) for name in manifest.files if name.startswith(f"{RECORDS}/")
    }
    load(database, manifest.revision, tables)
    return manifest


def _copied(store: Store, archive: Archive, held: Tenure, progress: Progress, tell: Tell) -> Iterator[ObjectEntry]:
    for copied in _in_parallel(partial(_copy, store, archive), store.list("")):
        held.check()
        if copied is not None:
            entry, was_there = copied
            progress.num_objects += 1
            progress.num_bytes += entry.num_bytes
            progress.num_there += was_there
            yield entry
        tell(progress)


def _copy(store: Store, archive: Archive, one: StoredObject) -> tuple[ObjectEntry, bool] | None:
    """Copy an object, unless an earlier backup has; return it and whether it had. None: it is gone.

    What goes while the lease is held is what no record names: a job's older checkpoints, an import that failed.
    """
    path = archive.object_path(one.key)
    was_there = _is_copy(path, one)
    try:
        written = measure(path) if was_there else None
        written = written or archive.write(path, store.read(one.key), modified_at=one.modified_at)
    except ObjectMissingError:
        return None
    return ObjectEntry(key=one.key, **written.model_dump()), was_there


def _is_copy(path: Path, one: StoredObject) -> bool:
    try:
        file = path.stat()
    except FileNotFoundError:
        return False
    return file.st_size == one.num_bytes and abs(file.st_mtime - one.modified_at) < SAME_TIME_S


def _put(store: Store, archive: Archive, entry: ObjectEntry) -> tuple[ObjectEntry, bool]:
    """Store an object, unless a restoration that was broken off has; return it and whether it had."""
    path = archive.object_path(entry.key)
    was_there = store.size(entry.key) == entry.num_bytes
    if not was_there:
        require(path, entry)
        store.put_file(entry.key, path)
    return entry, was_there


def _in_parallel(act: Callable[[Item], Result], items: Iterator[Item]) -> Iterator[Result]:
    """Yield what becomes of each item, in their order, of few at a time."""
    with ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="copy") as pool:
        while batch := tuple(islice(items, NUM_AHEAD)):
            yield from pool.map(act, batch)


def _keys(archive: Archive) -> Iterator[str]:
    return (one.key for one in FolderStore(archive.path(OBJECTS)).list(""))


def _not_in(keys: Iterator[str], others: Iterator[str]) -> Iterator[str]:
    """Yield the keys that are none of the others; both come in order."""
    other = next(others, None)
    for key in keys:
        while other is not None and other < key:
            other = next(others, None)
        if key != other:
            yield key
