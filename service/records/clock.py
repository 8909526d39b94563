"""The database's own clock, so that every process reads the same time."""

from sqlalchemy import Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class DatabaseNow(FunctionElement[float]):
    """SQL: seconds since the epoch, by the database's clock."""

    type = Float()
    inherit_cache = True


@compiles(DatabaseNow, "sqlite")
def _sqlite(*_: object, **__: object) -> str:
    # `unixepoch('subsec')` came with SQLite 3.42, later than what Python 3.11 may be linked with.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(DatabaseNow, "postgresql")
def _postgresql(*_: object, **__: object) -> str:
    # Not now(), which is when the transaction began.
    return "extract(epoch from clock_timestamp())::double precision"
