"""The reconciler's thread."""

import logging
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from search_spaces.errors import ArchPriorError
from service.loops import Loop
from service.reconcile.executor import Reconciler

PAUSE_AFTER_ERROR_S: Final = 3.0

logger = logging.getLogger(__name__)


class ReconcileLoop(Loop):
    """Steps a reconciler at an interval, and at once when woken.

    Args:
        reconciler: What to step.
        interval_s: Seconds between two steps.
    """

    def __init__(self, reconciler: Reconciler, *, interval_s: float) -> None:
        super().__init__("reconciler", logger)
        self._reconciler, self._interval_s = reconciler, interval_s

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause_s = self._interval_s
            try:
                self._reconciler.step()
                self._went_well()
            except (ArchPriorError, SQLAlchemyError, OSError) as error:
                pause_s = max(pause_s, PAUSE_AFTER_ERROR_S)
                self._has_to_wait(error)
            self._pause(pause_s)
