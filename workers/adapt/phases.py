"""The seconds that each phase of an attempt took, on a monotonic clock."""

import time
from collections.abc import Callable, Mapping

from workers.contracts.adaptations import Phase


class PhaseTimer:
    """Keeps the seconds spent in each phase; entering one ends the last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: dict[str, float] = {}
        self._phase: Phase = "starting"
        self._since_s = clock()

    @property
    def phase(self) -> Phase:
        return self._phase

    def enter(self, phase: Phase) -> None:
        """End the current phase and begin `phase`."""
        now_s = self._clock()
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now_s - self._since_s
        self._phase, self._since_s = phase, now_s

    def seconds(self) -> Mapping[str, float]:
        """Return seconds by phase, the running one included; `starting` is left out, it precedes the budget."""
        seconds = dict(self._seconds)
        seconds[self._phase] = seconds.get(self._phase, 0.0) + self._clock() - self._since_s
        return {phase: round(spent_s, 3) for phase, spent_s in seconds.items() if phase not in ("starting", "done")}
