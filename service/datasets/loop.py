"""The thread that keeps the checker's lease, and the one that checks."""

import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from search_spaces.errors import ArchPriorError
from service.datasets.checker import Checker
from service.loops import Loop
from service.records.lease import Lease
from service.records.model import DatasetEntry

INTERVAL_S: Final = 1.0
PAUSE_AFTER_ERROR_S: Final = 5.0

logger = logging.getLogger(__name__)


class CheckLoop(Loop):
    """Has a checker settle one dataset after the other, while no other service on these records does.

    It looks for more at an interval, and at once when woken. The lease is renewed while a check takes its time.

    Args:
        checker: That settles them.
        lease: The right to.
        interval_s: Seconds between two looks.
    """

    def __init__(self, checker: Checker, lease: Lease, *, interval_s: float = INTERVAL_S) -> None:
        super().__init__("checker", logger)
        self._checker, self._lease, self._interval_s = checker, lease, interval_s

    def stop(self) -> None:
        """Have the thread end; a check that it is in breaks off."""
        self._checker.stop()
        super().stop()

    def _run(self) -> None:
        due: deque[DatasetEntry] = deque()
        check: tuple[DatasetEntry, Future[None]] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="check") as worker:
            while not self._stopping.is_set():
                pause_s = self._interval_s
                try:
                    ours = self._lease.acquire()
                    if check is not None and check[1].done():
                        ended, check = check, None
                        self._tell(*ended)
                    if not ours:
                        due.clear()  # another checks, and may settle them
                    elif check is None:
                        due = due or deque(self._checker.due())
                        if due:
                            entry = due.popleft()
                            check = entry, worker.submit(self._checker.settle, entry)
                            check[1].add_done_callback(lambda _: self.wake())
                    self._went_well()
                except (ArchPriorError, SQLAlchemyError, OSError) as error:
                    pause_s = max(pause_s, PAUSE_AFTER_ERROR_S)
                    self._has_to_wait(error)
                self._pause(pause_s)

    def _tell(self, entry: DatasetEntry, check: Future[None]) -> None:
        """Tell how a check has ended, if not well. Raises what the records have raised."""
        error = check.exception()
        if isinstance(error, SQLAlchemyError):
            raise error
        if error is not None:
            # A fault of ours, of any kind, which the future holds: so it ends no thread, and keeps no other dataset
            # waiting. It needs no more than to be told, as this try was counted before it began.
            logger.error("dataset=%s could not be checked, by a fault of the service", entry.id, exc_info=error)
