"""The housekeeper's thread."""

import logging
import threading
import time
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from search_spaces.errors import ArchPriorError
from service.errors import ConflictError
from service.housekeeping.housekeeper import Housekeeper

PAUSE_AFTER_ERROR_S: Final = 5.0
LONGEST_PAUSE_S: Final = 600.0
"""What another service on these records has deleted is found after so long, should that have ended before."""
JOIN_TIMEOUT_S: Final = 60.0

logger = logging.getLogger(__name__)


class HousekeepingLoop:
    """Removes what was deleted, at once when woken, and what has become garbage, at an interval.

    An error that is none of those expected ends the thread, with its traceback in the log: `alive` then tells.

    Args:
        housekeeper: What to have act.
        gc_interval_s: Seconds between two rounds of `gc`; 0: none.
    """

    def __init__(self, housekeeper: Housekeeper, *, gc_interval_s: float) -> None:
        self._housekeeper, self._gc_interval_s = housekeeper, gc_interval_s
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeper", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the loop still runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have it look at once: something was deleted."""
        self._woken.set()

    def stop(self) -> None:
        """Have the thread end after what it removes now."""
        self._stopping.set()
        self._housekeeper.stop()
        self._woken.set()

    def join(self) -> None:
        """Wait for the thread to end; told to `stop` first."""
        self._thread.join(JOIN_TIMEOUT_S)

    def _run(self) -> None:
        gc_at = time.monotonic() + self._gc_interval_s if self._gc_interval_s else float("inf")
        last_error = ""
        while not self._stopping.is_set():
            pause_s = min(LONGEST_PAUSE_S, self._gc_interval_s or LONGEST_PAUSE_S)
            try:
                self._housekeeper.sweep()
                if time.monotonic() >= gc_at:
                    self._housekeeper.gc(apply=True)
                    gc_at = time.monotonic() + self._gc_interval_s
                last_error = ""
            except (ArchPriorError, SQLAlchemyError, OSError) as error:
                pause_s = PAUSE_AFTER_ERROR_S
                # A backup may take hours; that there is one is no trouble.
                if str(error) != last_error and not isinstance(error, ConflictError):
                    logger.error("housekeeping has to wait: %s", error)  # once, not at every try
                last_error = str(error)
            self._woken.wait(pause_s)
            self._woken.clear()
