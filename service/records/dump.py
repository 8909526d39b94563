"""All rows as lines of JSON, and back again: of either database, for either."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Final

from alembic import command
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import JSON, Connection, MetaData, Table, delete, func, insert, inspect, literal, select

from search_spaces.errors import InvalidOptionError
from service.errors import ConflictError
from service.records.clock import DatabaseNow
from service.records.database import Database, migration_config
from service.records.tables import Base, IdentityRow, LeaseRow, TurnRow

NUM_ROWS: Final = 1000
"""Rows that are in memory at once."""
LEFT_OUT: Final = frozenset({LeaseRow.__tablename__, IdentityRow.__tablename__})
"""Who acts now is nothing to keep; and restored records are others than those that were copied, which may live on: a
service on them leaves the others' jobs alone."""
SEEDED: Final = frozenset({LeaseRow.__tablename__, TurnRow.__tablename__, IdentityRow.__tablename__})
"""Tables in which the migrations leave rows."""

Rows = Iterator[Mapping[str, object]]


def dump(database: Database, keep: Callable[[str, Iterator[str]], None]) -> str:
    """Hand over all rows, as they are at one moment; return the revision of the tables.

    Args:
        database: Of the newest revision.
        keep: Is called with each table's name and its rows, a line each, in the order of their keys.
    """
    with _snapshot(database) as connection:
        for table in Base.metadata.sorted_tables:
            if table.name not in LEFT_OUT:
                keep(table.name, _lines(connection, table))
        revision = MigrationContext.configure(connection).get_current_revision()
    return revision or ""


def load(database: Database, revision: str, tables: Mapping[str, Callable[[], Iterable[str]]]) -> None:
    """Record the rows that `dump` has handed over, all or none, and bring them to the newest revision.

    Args:
        database: Empty, whether it has tables or not.
        revision: Of the rows.
        tables: Returns the rows of each table, by its name.

    Raises:
        ConflictError: The database is not empty, or a service acts on it.
    """
    config = migration_config()
    with database.exclusive("archprior migrations"), database.migrating() as connection:
        _require_empty(connection)
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        command.upgrade(config, revision)
        there = MetaData()
        there.reflect(connection)
        for table in there.sorted_tables:
            if table.name in tables:
                _fill(connection, table, tables[table.name]())
        command.upgrade(config, "head")


def require_known(revision: str) -> None:
    """Raise `InvalidOptionError` for a revision of tables that only a newer version knows."""
    try:
        ScriptDirectory.from_config(migration_config()).get_revision(revision)
    except (CommandError, ResolutionError) as error:
        raise InvalidOptionError("tables of a revision that is not known", got=revision) from error


def require_empty(database: Database) -> None:
    """Raise `ConflictError` for records into which nothing may be loaded."""
    with database.connection() as connection:
        _require_empty(connection)


@contextmanager
def _snapshot(database: Database) -> Iterator[Connection]:
    with database.connection() as connection:
        if connection.dialect.name == "postgresql":  # SQLite does this by itself
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            for timeout in ("statement_timeout", "idle_in_transaction_session_timeout"):
                connection.exec_driver_sql(f"SET LOCAL {timeout} = 0")
        yield connection


def _lines(connection: Connection, table: Table) -> Iterator[str]:
    query = select(table).order_by(*table.primary_key)
    for row in connection.execute(query, execution_options={"yield_per": NUM_ROWS}).mappings():
        yield json.dumps(dict(row), separators=(",", ":"))


def _require_empty(connection: Connection) -> None:
    there = set(inspect(connection).get_table_names())
    if LeaseRow.__tablename__ in there:
        held = select(LeaseRow.name).where(LeaseRow.expires_at > DatabaseNow())
        if connection.scalar(held.limit(1)) is not None:
            todo = "Stop it, and wait a minute if it was killed."
            raise ConflictError("a service acts on these records", todo=todo)
    for table in Base.metadata.sorted_tables:
        any_row = select(literal(1)).select_from(table).limit(1)  # of whatever columns it has now
        if table.name in there - SEEDED and connection.scalar(any_row) is not None:
            raise ConflictError(
                f"these records are not empty: there are {table.name}",
                todo="Restore into a new data folder, or a new database; nothing that is there is replaced.",
            )


def _fill(connection: Connection, table: Table, lines: Iterable[str]) -> None:
    for column in table.columns:
        if isinstance(column.type, JSON):  # as found in the database, it would make NULL of nothing
            column.type = JSON(none_as_null=True)
    connection.execute(delete(table))  # what the migrations leave
    rows = map(json.loads, lines)
    while batch := list(islice(rows, NUM_ROWS)):
        connection.execute(insert(table), batch)
    if connection.dialect.name == "postgresql":
        _set_sequence(connection, table)


def _set_sequence(connection: Connection, table: Table) -> None:
    """Have the next number that PostgreSQL gives be one that no row has."""
    for column in table.primary_key:
        name = func.pg_get_serial_sequence(table.name, column.name)
        sequence = connection.scalar(select(name))
        last = connection.scalar(select(func.max(column)))
        if sequence is not None and last is not None:
            connection.execute(select(func.setval(sequence, last)))
