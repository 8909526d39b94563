"""`archprior backup`, `archprior restore`: all of a service's records and objects, to a folder and back."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.database import readable, records, settings_of
from service.cli.options import DataDirOption, JsonOption
from service.cli.output import print_json, stderr

if TYPE_CHECKING:
    from service.housekeeping.backup import Progress, Tell

TOLD_EVERY_S = 5.0

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="Of the backup.", file_okay=False)]


def backup(
    folder: FolderArgument,
    data_dir: DataDirOption = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read all that the backup holds already, and all objects, and compare them."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy all records and objects into a folder, whether the service runs or not; again brings it up to date.

    It holds hashes of keys and secrets of webhooks: only its owner can read it.
    """
    from service.housekeeping.backup import back_up
    from workers.store.open import open_store

    settings = settings_of(data_dir=data_dir)
    with records(data_dir) as database, _telling() as tell:
        manifest = back_up(database, open_store(settings.objects), folder, tell=tell, verify=verify)
    if as_json:
        print_json(manifest)
    else:
        stderr().print(
            f"{folder} holds {manifest.num_objects:,} objects of {manifest.num_bytes:,} bytes.", markup=False
        )


def restore(folder: FolderArgument, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Bring a backup into empty records and an empty store, of a service that does not run."""
    from service.data_dir import claim
    from service.housekeeping.backup import restore as bring_back
    from service.records.database import Database
    from workers.store.open import open_store

    settings = settings_of(data_dir=data_dir)
    with claim(settings.data_dir):
        database = Database(settings.database)
        try:
            with readable(), _telling() as tell:
                manifest = bring_back(database, open_store(settings.objects, create=True), folder, tell=tell)
        finally:
            database.close()
    if as_json:
        print_json(manifest)
    else:
        told = f"All records are restored, and {manifest.num_objects:,} objects of {manifest.num_bytes:,} bytes."
        stderr().print(told, markup=False)


@contextmanager
def _telling() -> "Iterator[Tell]":
    """Yield what tells of progress on stderr, now and then and at the end."""
    told_at, last = time.monotonic(), None

    def tell(progress: "Progress") -> None:
        nonlocal told_at, last
        last = progress
        if time.monotonic() - told_at > TOLD_EVERY_S:
            told_at = time.monotonic()
            _say(progress)

    yield tell
    if last is not None:
        _say(last)


def _say(progress: "Progress") -> None:
    there = f", of which {progress.num_there:,} were there" if progress.num_there else ""
    stderr().print(f"{progress.num_objects:,} objects, {progress.num_bytes:,} bytes{there}", markup=False)
