"""How much of the seconds that were granted are left, on a monotonic clock."""

import time
from collections.abc import Callable


class Budget:
    """Counts from its making; for an adaptation that is when staging begins.

    Args:
        total_s: Seconds granted, of an adaptation staging to manifest; infinite where all of the work is to be done.
        clock: Monotonic seconds.
    """

    def __init__(self, total_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start_s = clock()
        self.total_s = total_s

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._start_s

    @property
    def remaining_s(self) -> float:
        return self.total_s - self.elapsed_s

    def end(self) -> None:
        """Have nothing left from now on."""
        self.total_s = min(self.total_s, self.elapsed_s)
