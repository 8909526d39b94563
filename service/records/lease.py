"""A lease: one process at a time may act, for as long as it keeps renewing."""

import time
from typing import Final

from sqlalchemy import or_, select, update

from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.tables import LeaseRow

RECONCILER = "reconciler"
CHECKER = "checker"
HOUSEKEEPER = "housekeeper"
WEBHOOKS = "webhooks"
FRESH: Final = 0.2
"""Of its time: how long after a renewal a lease is believed to be ours without asking."""


class Lease:
    """The right to act, by the database's clock.

    Args:
        database: Where the lease's row lies.
        name: Which lease; its row was made by a migration.
        holder: Who asks: unique to this process.
        ttl_s: Seconds until a holder that does not renew has lost it.
    """

    def __init__(self, database: Database, *, name: str, holder: str, ttl_s: float) -> None:
        self._database, self._name, self._holder, self._ttl_s = database, name, holder, ttl_s
        self._renewed_s = float("-inf")

    def acquire(self) -> bool:
        """Take or renew the lease; return whether it is ours now."""
        free = or_(LeaseRow.holder == self._holder, LeaseRow.expires_at < DatabaseNow())
        taken = (
            update(LeaseRow)
            .where(LeaseRow.name == self._name, free)
            .values(holder=self._holder, expires_at=DatabaseNow() + self._ttl_s)
            .returning(LeaseRow.name)
        )
        asked_s = time.monotonic()
        with self._database.transaction() as session:
            is_ours = session.execute(taken).first() is not None
        self._renewed_s = asked_s if is_ours else float("-inf")
        return is_ours

    def keep(self) -> bool:
        """Return whether it is ours, as `acquire` does; one that was renewed a moment ago is not asked for again."""
        return time.monotonic() - self._renewed_s < FRESH * self._ttl_s or self.acquire()

    def is_held(self) -> bool:
        """Return whether anybody has it now."""
        held = select(LeaseRow.name).where(LeaseRow.name == self._name, LeaseRow.expires_at >= DatabaseNow())
        with self._database.transaction() as session:
            return session.scalar(held) is not None

    def release(self) -> None:
        """Give the lease back, if it is ours, so that the next holder need not wait."""
        self._renewed_s = float("-inf")
        self.end_those_of(self._holder)

    def end_those_of(self, prefix: str) -> None:
        """Free the lease if a holder has it whose name begins so; the caller knows that these no longer act."""
        theirs = (LeaseRow.name == self._name, LeaseRow.holder.startswith(prefix, autoescape=True))
        with self._database.transaction() as session:
            session.execute(update(LeaseRow).where(*theirs).values(expires_at=0.0))
