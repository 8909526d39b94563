"""The reconciler's thread."""

import logging
import threading
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from search_spaces.errors import ArchPriorError
from service.reconcile.executor import Reconciler

PAUSE_AFTER_ERROR_S: Final = 3.0
JOIN_TIMEOUT_S: Final = 60.0

logger = logging.getLogger(__name__)


class ReconcileLoop:
    """Steps a reconciler at an interval, and at once when woken.

    An error that is none of those expected ends the thread, with its traceback in the log: `alive` then tells.

    Args:
        reconciler: What to step.
        interval_s: Seconds between two steps.
    """

    def __init__(self, reconciler: Reconciler, *, interval_s: float) -> None:
        self._reconciler, self._interval_s = reconciler, interval_s
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the loop still runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have it look at once: something has changed."""
        self._woken.set()

    def stop(self) -> None:
        """Have the thread end after the step that it is in."""
        self._stopping.set()
        self._woken.set()

    def join(self) -> None:
        """Wait for the thread to end; told to `stop` first."""
        self._thread.join(JOIN_TIMEOUT_S)

    def _run(self) -> None:
        last_error = ""
        while not self._stopping.is_set():
            pause_s = self._interval_s
            try:
                self._reconciler.step()
                last_error = ""
            except (ArchPriorError, SQLAlchemyError, OSError) as error:
                pause_s = max(pause_s, PAUSE_AFTER_ERROR_S)
                if str(error) != last_error and not self._stopping.is_set():
                    logger.error("the reconciler has to wait: %s", error)  # once, not at every step
                last_error = str(error)
            self._woken.wait(pause_s)
            self._woken.clear()
