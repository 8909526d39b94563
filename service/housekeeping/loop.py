"""The housekeeper's thread."""

import logging
import time
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from search_spaces.errors import ArchPriorError
from service.errors import ConflictError
from service.housekeeping.housekeeper import Housekeeper
from service.loops import Loop

PAUSE_AFTER_ERROR_S: Final = 5.0
LONGEST_PAUSE_S: Final = 600.0
"""What another service on these records has deleted is found after so long, should that have ended before."""

logger = logging.getLogger(__name__)


class HousekeepingLoop(Loop):
    """Removes what was deleted, at once when woken, and what has become garbage, at an interval.

    Args:
        housekeeper: What to have act.
        gc_interval_s: Seconds between two rounds of `gc`; 0: none.
    """

    def __init__(self, housekeeper: Housekeeper, *, gc_interval_s: float) -> None:
        super().__init__("housekeeper", logger)
        self._housekeeper, self._gc_interval_s = housekeeper, gc_interval_s

    def stop(self) -> None:
        """Have the thread end after what it removes now."""
        self._housekeeper.stop()
        super().stop()

    def _run(self) -> None:
        gc_at = time.monotonic() + self._gc_interval_s if self._gc_interval_s else float("inf")
        while not self._stopping.is_set():
            pause_s = min(LONGEST_PAUSE_S, self._gc_interval_s or LONGEST_PAUSE_S)
            try:
                self._housekeeper.sweep()
                if time.monotonic() >= gc_at:
                    gc_at = time.monotonic() + self._gc_interval_s  # a round that fails is not begun again at once
                    self._housekeeper.gc(apply=True)
                self._went_well()
            except (ArchPriorError, SQLAlchemyError, OSError) as error:
                pause_s = PAUSE_AFTER_ERROR_S
                # A backup may take hours; that there is one is no trouble.
                self._has_to_wait(error, is_told=not isinstance(error, ConflictError))
            self._pause(pause_s)
