"""The lease of housekeeping, held for as long as a block takes: to remove, or to rely on nobody removing."""

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from service.errors import ConflictError
from service.records.database import Database
from service.records.lease import HOUSEKEEPER, Lease

TTL_S: Final = 60.0
"""After so long another may act, if its holder was killed or cannot reach the records."""
RENEWED_EVERY_S: Final = TTL_S / 4
TRIED_EVERY_S: Final = 0.05
PATIENCE_S: Final = 2.0
"""Of what somebody has asked for."""

logger = logging.getLogger(__name__)


class Tenure:
    """A lease that a thread renews.

    Args:
        lease: That was just acquired.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._renewed_at = time.monotonic()
        self._lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="housekeeping lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise `ConflictError` if the lease may be another's by now; called before whatever relies on it."""
        if self._lost or time.monotonic() - self._renewed_at > TTL_S - RENEWED_EVERY_S:
            todo = "See that the records can be reached, and begin again: what was done is not lost."
            raise ConflictError("the lease of housekeeping was lost", todo=todo)

    def end(self) -> None:
        """Renew no more."""
        self._ended.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED_EVERY_S):
            asked_at = time.monotonic()
            try:
                self._lost = self._lost or not self._lease.acquire()
            except SQLAlchemyError as error:
                logger.warning("the lease of housekeeping cannot be renewed: %s", error)
            else:
                self._renewed_at = asked_at


def new_lease(database: Database, *, holder: str) -> Lease:
    """Return the lease of housekeeping for one who has not had it.

    Args:
        database: Where the lease lies.
        holder: What its holder's name begins with.
    """
    return Lease(database, name=HOUSEKEEPER, holder=f"{holder}:{secrets.token_hex(8)}", ttl_s=TTL_S)


@contextmanager
def holding(lease: Lease, *, patience_s: float = 0.0) -> Iterator[Tenure]:
    """Hold the lease for the block's time.

    Args:
        lease: To hold.
        patience_s: For how long to try: what removes one deleted thing holds it for a moment.

    Raises:
        ConflictError: Another has it.
    """
    deadline_s = time.monotonic() + patience_s
    while not lease.acquire():
        if time.monotonic() > deadline_s:
            raise ConflictError(
                "housekeeping or a backup is under way",
                todo=f"Try again when that has ended; one that was killed is forgotten after {TTL_S:.0f} seconds.",
            )
        time.sleep(TRIED_EVERY_S)
    tenure = Tenure(lease)
    try:
        yield tenure
    finally:
        tenure.end()
        lease.release()
