"""The connection to the records, which lie in a SQLite file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from search_spaces.errors import InvalidOptionError

MIGRATIONS: Final = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_S: Final = 15.0


class Database:
    """One pool of connections.

    A transaction that writes begins with its write: SQLite then waits for its turn instead of failing on a stale read.

    Args:
        url: SQLAlchemy URL of a SQLite file.

    Raises:
        InvalidOptionError: Another kind of database, or no URL.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Yield a session whose work is committed at the end, or undone by an error."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Yield a plain connection in a transaction of its own."""
        with self._engine.begin() as connection:
            yield connection

    def migrate(self) -> None:
        """Bring the tables up to what this version expects; nothing happens if they are."""
        config = migration_config()
        with self.connection() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def check(self) -> None:
        """Ask the database for an answer; raises SQLAlchemy's error if it gives none."""
        with self.connection() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def migration_config() -> Config:
    """Return Alembic's configuration for the packaged migrations."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _engine(url: str) -> Engine:
    expected = "sqlite:////absolute/path/to/file"
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidOptionError("not the URL of a database", expected=expected) from error
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite"}:
        todo = "Leave out ARCHPRIOR_DATABASE_URL: records lie in SQLite for now, PostgreSQL comes later."
        raise InvalidOptionError("unsupported database", got=parsed.drivername, expected=expected, todo=todo)
    engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # Left to itself, Python's driver begins no transaction before statements that make tables: half a migration stays.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
