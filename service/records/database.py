"""The connection to the records, which lie in a SQLite file or in PostgreSQL."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import NewerFormatError

MIGRATIONS: Final = Path(__file__).parent / "migrations"
SQLITE: Final = frozenset({"sqlite", "sqlite+pysqlite"})
POSTGRESQL: Final = frozenset({"postgresql", "postgresql+psycopg"})
BUSY_TIMEOUT_S: Final = 15.0
"""How long a statement may wait for others to be done with a row, or with SQLite's file."""
LOCK_TIMEOUT_S: Final = 600.0
CONNECT_TIMEOUT_S: Final = 5
# A host that vanishes says nothing: these find out, on this side of the connection.
VANISHED: Final = {
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": int(1000 * BUSY_TIMEOUT_S),
}
ABANDONED_S: Final = 60
"""After so long without a word from within a transaction, PostgreSQL gives its locks to others."""


class Database:
    """One pool of connections.

    A transaction that writes begins with its write: SQLite then waits for its turn instead of failing on a stale read,
    and in PostgreSQL whoever writes the same row later sees what was written before.

    Args:
        url: SQLAlchemy URL of a SQLite file, which one process has for itself, or of a PostgreSQL database.

    Raises:
        InvalidOptionError: Another kind of database, or no URL.
    """

    def __init__(self, url: str) -> None:
        parsed = _parse(url)
        self._is_postgresql = parsed.drivername in POSTGRESQL
        self._engine = _postgresql(parsed) if self._is_postgresql else _sqlite(parsed)
        self._locks = _Locks()

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

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Hold the lock of that name for the block's time, against every service on these records.

        For what takes longer than a transaction should. With SQLite the lock is one of this process.
        PostgreSQL frees the lock once its holder's connection ends, however that ends.

        Raises:
            OperationalError: Another had it for longer than `LOCK_TIMEOUT_S`.
        """
        if not self._is_postgresql:
            with self._locks.hold(name):
                yield
            return
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # Never back to the pool: closing it is what frees the lock.
            connection.detach()
            connection.exec_driver_sql(f"SET statement_timeout = '{LOCK_TIMEOUT_S:.0f}s'")
            connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT_S:.0f}s'")
            number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
            connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": number})
            yield

    def migrate(self) -> None:
        """Bring the tables up to what this version expects; nothing happens if they are.

        Of services that start at once, one migrates and the others wait.

        Raises:
            NewerFormatError: A newer ArchPrior has migrated them already.
        """
        config = migration_config()
        revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
        with self.exclusive("archprior migrations"), self.migrating() as connection:
            for found in MigrationContext.configure(connection).get_current_heads():
                if found not in revisions:
                    raise NewerFormatError.of("the database of records", found, revisions[0])
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that may copy tables and take its time.

        Raises:
            RuntimeError: A row refers to none that is there; nothing was changed.
        """
        if self._is_postgresql:
            with self.connection() as connection:
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                yield connection
            return
        with self._engine.connect() as connection:
            connection.detach()  # never back to the pool, where references are checked
            # A copy takes the place of a table to which others refer; this says nothing once a transaction has begun.
            connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
            # Another process may want to migrate too: whoever is second waits here, and finds nothing left to do.
            connection = connection.execution_options(begin="BEGIN IMMEDIATE")
            with connection.begin():
                yield connection
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                if broken:
                    raise RuntimeError(f"a migration would break references: {broken[:5]}")

    def check(self) -> None:
        """Ask the database for an answer; raises SQLAlchemy's error if it gives none."""
        with self.connection() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


class _Locks:
    """Locks of this process by name, each there for as long as somebody has it or waits for it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.RLock] = {}
        self._num_users: Counter[str] = Counter()

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(name, threading.RLock())
            self._num_users[name] += 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                self._num_users[name] -= 1
                if not self._num_users[name]:
                    del self._locks[name], self._num_users[name]


def migration_config() -> Config:
    """Return Alembic's configuration for the packaged migrations."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def is_shared(url: str) -> bool:
    """Return whether several services can have their records at that address."""
    return _parse(url).drivername in POSTGRESQL


def _parse(url: str) -> URL:
    expected = "sqlite:////absolute/path/to/file or postgresql://user:password@host/name"
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidOptionError("not the URL of a database", expected=expected) from error
    if parsed.drivername not in SQLITE | POSTGRESQL:
        todo = "Correct ARCHPRIOR_DATABASE_URL, or leave it out: records then lie in SQLite, in the data folder."
        raise InvalidOptionError("unsupported database", got=parsed.drivername, expected=expected, todo=todo)
    return parsed


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _postgresql(url: URL) -> Engine:
    timeouts = {
        "statement_timeout": f"{BUSY_TIMEOUT_S:.0f}s",
        "lock_timeout": f"{BUSY_TIMEOUT_S:.0f}s",
        "idle_in_transaction_session_timeout": f"{ABANDONED_S}s",
    }
    ours = " ".join(f"-c {name}={value}" for name, value in timeouts.items())
    theirs = url.query.get("options", "")
    options = f"{ours} {theirs if isinstance(theirs, str) else ' '.join(theirs)}"  # of two of a name the later counts
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        # A server that was restarted leaves connections in the pool that answer no more.
        pool_pre_ping=True,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "options": options, **VANISHED},
    )


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # Left to itself, Python's driver begins no transaction before statements that make tables: half a migration stays.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
