"""Data drawn while something else is computed, and how long that something had to wait for them all the same."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class Prefetcher(Generic[K, T]):
    """Draws at most one item ahead, in a thread of its own. For one caller.

    Args:
        draw: Makes the item of a key; also called in the caller's thread, for what was never hinted.
        clock: Seconds from any origin.
    """

    def __init__(self, draw: Callable[[K], T], clock: Callable[[], float] = monotonic) -> None:
        self._draw = draw
        self._clock = clock
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._ahead: tuple[K, Future[T]] | None = None
        self._waited_s = 0.0

    @property
    def waited_s(self) -> float:
        """Seconds that the caller waited for items in all."""
        return self._waited_s

    def hint(self, key: K) -> None:
        """Start drawing what will be asked for next; what was drawn ahead for another key is forgotten."""
        if self._ahead is not None:
            if self._ahead[0] == key:
                return
            self._ahead[1].cancel()
        self._ahead = (key, self._executor.submit(self._draw, key))

    def take(self, key: K) -> T:
        """Return the item of a key: drawn ahead, or as soon as it is drawn.

        Raises:
            Exception: Whatever `draw` raised; the item can be asked for again.
        """
        started_s = self._clock()
        try:
            if self._ahead is not None and self._ahead[0] == key:
                _, future = self._ahead
                self._ahead = None
                return future.result()
            return self._draw(key)
        finally:
            self._waited_s += self._clock() - started_s

    def close(self) -> None:
        """End the thread, after the item that it is drawing; nothing can be hinted any more."""
        self._executor.shutdown(wait=True, cancel_futures=True)
