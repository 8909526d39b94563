"""The thread that keeps the checker's lease, and the one that checks."""

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from search_spaces.errors import ArchPriorError
from service.datasets.checker import Checker
from service.records.lease import Lease

INTERVAL_S: Final = 1.0
PAUSE_AFTER_ERROR_S: Final = 5.0
JOIN_TIMEOUT_S: Final = 60.0

logger = logging.getLogger(__name__)


class CheckLoop:
    """Steps a checker at an interval, and at once when woken, while no other service on these records does.

    A step takes as long as its checks; the lease is renewed meanwhile. An error that is none of those expected ends the
    thread, with its traceback in the log: `alive` then tells.

    Args:
        checker: What to step.
        lease: The right to.
        interval_s: Seconds between two looks.
    """

    def __init__(self, checker: Checker, lease: Lease, *, interval_s: float = INTERVAL_S) -> None:
        self._checker, self._lease, self._interval_s = checker, lease, interval_s
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checker", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the loop still runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have it look at once: something has arrived."""
        self._woken.set()

    def stop(self) -> None:
        """Have the thread end; a step that it is in breaks off."""
        self._stopping.set()
        self._checker.stop()
        self._woken.set()

    def join(self) -> None:
        """Wait for the thread to end; told to `stop` first."""
        self._thread.join(JOIN_TIMEOUT_S)

    def _run(self) -> None:
        step: Future[None] | None = None
        last_error = ""
        with ThreadPoolExecutor(1, thread_name_prefix="check") as worker:
            while not self._stopping.is_set():
                pause_s = self._interval_s
                try:
                    ours = self._lease.acquire()
                    if step is not None and step.done():
                        ended, step = step, None
                        ended.result()
                        last_error = ""
                    if ours and step is None:
                        step = worker.submit(self._checker.step)
                except (ArchPriorError, SQLAlchemyError, OSError) as error:
                    pause_s = max(pause_s, PAUSE_AFTER_ERROR_S)
                    if str(error) != last_error and not self._stopping.is_set():
                        logger.error("the checker has to wait: %s", error)  # once, not at every step
                    last_error = str(error)
                self._woken.wait(pause_s)
                self._woken.clear()
