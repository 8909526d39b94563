"""The thread that keeps the checker's lease, and the one that checks."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from search_spaces.errors import ArchPriorError
from service.datasets.checker import Checker
from service.loops import Loop
from service.records.lease import Lease

INTERVAL_S: Final = 1.0
PAUSE_AFTER_ERROR_S: Final = 5.0

logger = logging.getLogger(__name__)


class CheckLoop(Loop):
    """Steps a checker at an interval, and at once when woken, while no other service on these records does.

    A step takes as long as its checks; the lease is renewed meanwhile.

    Args:
        checker: What to step.
        lease: The right to.
        interval_s: Seconds between two looks.
    """

    def __init__(self, checker: Checker, lease: Lease, *, interval_s: float = INTERVAL_S) -> None:
        super().__init__("checker", logger)
        self._checker, self._lease, self._interval_s = checker, lease, interval_s

    def stop(self) -> None:
        """Have the thread end; a step that it is in breaks off."""
        self._checker.stop()
        super().stop()

    def _run(self) -> None:
        step: Future[None] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="check") as worker:
            while not self._stopping.is_set():
                pause_s = self._interval_s
                try:
                    ours = self._lease.acquire()
                    if step is not None and step.done():
                        ended, step = step, None
                        ended.result()
                        self._went_well()
                    if ours and step is None:
                        step = worker.submit(self._checker.step)
                except (ArchPriorError, SQLAlchemyError, OSError) as error:
                    pause_s = max(pause_s, PAUSE_AFTER_ERROR_S)
                    self._has_to_wait(error)
                self._pause(pause_s)
