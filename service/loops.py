"""The frame of the service's threads: they act at an interval, and at once when woken."""

import logging
import threading
from abc import ABC, abstractmethod
from typing import Final

JOIN_TIMEOUT_S: Final = 60.0


class Loop(ABC):
    """A thread that acts until it is told to stop.

    An error that is none of those expected ends the thread, with its traceback in the log: `alive` then tells.

    Args:
        name: Of the thread.
        logger: Where trouble is told.
    """

    def __init__(self, name: str, logger: logging.Logger) -> None:
        self._name, self._logger = name, logger
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._last_error = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

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
        """Have the thread end after what it does now."""
        self._stopping.set()
        self._woken.set()

    def join(self) -> None:
        """Wait for the thread to end; told to `stop` first."""
        self._thread.join(JOIN_TIMEOUT_S)

    @abstractmethod
    def _run(self) -> None:
        """Act and pause until `_stopping` is set."""

    def _pause(self, seconds: float) -> None:
        """Wait so long, or until it is woken."""
        self._woken.wait(seconds)
        self._woken.clear()

    def _went_well(self) -> None:
        self._last_error = ""

    def _has_to_wait(self, error: Exception, *, is_told: bool = True) -> None:
        """Tell of an error that may pass: once, not each time that it comes again."""
        if is_told and str(error) != self._last_error and not self._stopping.is_set():
            self._logger.error("the %s has to wait: %s", self._name, error)
        self._last_error = str(error)
