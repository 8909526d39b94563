"""All records and all objects of a service, copied to a folder and back.

The records come first, as they are at one moment; then the objects. Nothing that these records name is removed
meanwhile, as the backup holds the lease of housekeeping; what is added later does no harm. Restoring goes the other way
round: a record always has its bytes.

Sizes and times prove nothing. What is copied is hashed on its way; what a backup holds already is kept if its list has
it in the version that the store still has; what is restored is what its hash says.
"""

import logging
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
    written_of,
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
NEW_STORE: Final = "Restore into a new store; nothing that is there is replaced."

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """How many objects were copied so far, and how many of them lay there already."""

    num_objects: int = 0
    num_bytes: int = 0
    num_there: int = 0

    def add(self, entry: ObjectEntry, *, was_there: bool) -> None:
        """Count one object."""
        self.num_objects += 1
        self.num_bytes += entry.num_bytes
        self.num_there += was_there


Tell = Callable[[Progress], None]
Found = tuple[StoredObject, ObjectEntry | None]


def back_up(database: Database, store: Store, folder: Path, *, tell: Tell, verify: bool = False) -> BackupManifest:
    """Copy everything into a folder, and return what that is then. A service may run meanwhile; it removes nothing.

    A folder with an older backup, or with half of one, gets what it lacks; what is gone since goes from there, too.

    Args:
        database: Of the newest revision.
        store: Of the same service.
        folder: New, empty, or of a backup.
        tell: Is told how far it has come.
        verify: Keep what the folder holds only if its hash, and that of the store's object, are the listed one: reads
            all of both.

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
        copy = partial(_copy, store, archive, verify=verify)
        files[LISTED] = archive.write_list(_copied(copy, store, archive, held, progress, tell))
        for one, entry in _beside(FolderStore(archive.path(OBJECTS)).list(""), archive.objects()):
            if entry is None:
                archive.object_path(one.key).unlink()
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
        ConflictError: Records or store hold something, or an object that is not the backup's; names it.
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
    for one, listed in _beside(store.list(""), archive.objects()):
        if listed is None:
            raise ConflictError("the store is not empty", got=one.key, todo=NEW_STORE)
    progress = Progress()
    for entry, was_there in _in_parallel(partial(_put, store, archive), archive.objects()):
        progress.add(entry, was_there=was_there)
        tell(progress)
    tables = {
        Path(name).stem: partial(archive.lines, name) for name in manifest.files if name.startswith(f"{RECORDS}/")
    }
    load(database, manifest.revision, tables)
    return manifest


def _copied(
    copy: Callable[[Found], tuple[ObjectEntry, bool] | None],
    store: Store,
    archive: Archive,
    held: Tenure,
    progress: Progress,
    tell: Tell,
) -> Iterator[ObjectEntry]:
    for copied in _in_parallel(copy, _beside(store.list(""), archive.known())):
        held.check()
        if copied is not None:
            entry, was_there = copied
            progress.add(entry, was_there=was_there)
            yield entry
        tell(progress)


def _copy(store: Store, archive: Archive, found: Found, *, verify: bool) -> tuple[ObjectEntry, bool] | None:
    """Copy an object, unless an earlier round has; return what to list, and whether it had. None: the object is gone.

    What goes while the lease is held is what no record names: a job's older checkpoints, an import that failed.
    """
    one, known = found
    path = archive.object_path(one.key)
    try:
        if known is not None and _is_copy(path, one, known) and not (verify and _differs(store, path, known)):
            return known, True
        written = archive.write(path, store.read(one.key), modified_at=one.modified_at)
    except ObjectMissingError:
        return None
    return ObjectEntry(key=one.key, version=one.version, **written.model_dump()), False


def _is_copy(path: Path, one: StoredObject, known: ObjectEntry) -> bool:
    """Return whether a file is what was listed of an object, and the object still what was copied.

    The file's own size and time tell that no round has replaced it that was killed before it could list so.
    """
    if not one.version or (one.version, one.num_bytes) != (known.version, known.num_bytes):
        return False
    try:
        file = path.stat()
    except FileNotFoundError:
        return False
    return file.st_size == one.num_bytes and abs(file.st_mtime - one.modified_at) < SAME_TIME_S


def _differs(store: Store, path: Path, known: ObjectEntry) -> bool:
    """Return whether a file, or its object, is not what was listed. Raises `ObjectMissingError` of the latter."""
    listed = known.written()
    if measure(path) == listed == written_of(store.read(known.key)):
        return False
    logger.warning("the backup of %s is not what was copied: it is copied again", known.key)
    return True


def _put(store: Store, archive: Archive, entry: ObjectEntry) -> tuple[ObjectEntry, bool]:
    """Store an object, unless a restoration that was broken off has; return it and whether it had."""
    try:
        there = written_of(store.read(entry.key))
    except ObjectMissingError:
        path = archive.object_path(entry.key)
        require(path, entry.written())
        store.put_file(entry.key, path)
        return entry, False
    if there != entry.written():
        raise ConflictError("the store has another object under a key of the backup", got=entry.key, todo=NEW_STORE)
    return entry, True


def _in_parallel(act: Callable[[Item], Result], items: Iterator[Item]) -> Iterator[Result]:
    """Yield what becomes of each item, in their order, of few at a time."""
    with ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="copy") as pool:
        while batch := tuple(islice(items, NUM_AHEAD)):
            yield from pool.map(act, batch)


def _beside(items: Iterator[StoredObject], entries: Iterator[ObjectEntry]) -> Iterator[Found]:
    """Yield each object with what is listed of it, None where nothing is; both come in the order of their keys."""
    entry = next(entries, None)
    for one in items:
        while entry is not None and entry.key < one.key:
            entry = next(entries, None)
        yield one, entry if entry is not None and entry.key == one.key else None
