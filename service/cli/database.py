"""The records, for commands that work on them directly: a service may run on them, or not yet."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from search_spaces.errors import ArchPriorError
from service.cli.errors import as_invalid_option

if TYPE_CHECKING:
    from service.records.database import Database
    from service.settings import Settings


def settings_of(**given: Any) -> "Settings":
    """Return the service's settings: what is given and not None, and for the rest the environment's.

    Raises:
        InvalidOptionError: They cannot be; names each variable.
    """
    # These imports take seconds that no other command should pay.
    from service.settings import Settings

    try:
        return Settings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        what = "the service cannot run with these settings"
        raise as_invalid_option(what, error, spell=lambda field: f"ARCHPRIOR_{field.upper()}") from error


@contextmanager
def readable() -> Iterator[None]:
    """Have the database's own errors read like ours."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        raise ArchPriorError(
            "the records cannot be used",
            got=str(error).partition("\n")[0],
            todo="See that ARCHPRIOR_DATABASE_URL names a database that answers, or the data folder a sound one.",
        ) from error


@contextmanager
def records(data_dir: Path | None) -> Iterator["Database"]:
    """Yield the records of a service, made if there are none yet; no service has to run, and one may.

    Args:
        data_dir: Of the service; None: what the environment says.
    """
    from service.records.database import Database

    settings = settings_of(data_dir=data_dir)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database)
    try:
        with readable():
            database.migrate()
            yield database
    finally:
        database.close()


def holds_keys(settings: "Settings") -> bool:
    """Return whether the records hold a key; where there are no records yet, none are made."""
    from sqlalchemy.engine import make_url

    from service.records.database import Database
    from service.records.keys import has_keys

    database = Database(settings.database)
    try:
        file = make_url(settings.database)
        is_file = file.get_backend_name() == "sqlite"
        with readable():
            return not (is_file and not Path(file.database or "").exists()) and has_keys(database)
    finally:
        database.close()
