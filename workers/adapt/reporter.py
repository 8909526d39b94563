"""What a running attempt tells (`progress.json`) and what it is told (`control.json`)."""

import logging
import time
from collections.abc import Callable

from workers.adapt.phases import PhaseTimer
from workers.contracts.adaptations import Candidate, Control, Phase, Progress
from workers.contracts.errors import CancelledError, ObjectMissingError, StoreError
from workers.contracts.series import Point, Series
from workers.store.protocol import Store
from workers.training.budget import Budget

log = logging.getLogger("archprior.adapt")

WRITE_EVERY_S = 1.0
POLL_EVERY_S = 2.0
PAUSE_S = 10.0
"""A store that has failed is left alone for so long: one that is silent takes seconds to fail, each time."""


class Reporter:
    """Writes progress at most once a second and looks for a cancel every two.

    Args:
        store: Where the attempt's bytes lie.
        attempt_key: Prefix of the attempt, without a final slash.
        budget: For elapsed and remaining seconds.
        active: Whether this process speaks for the attempt; the other ranks of a worker group keep silent.
        clock: Monotonic seconds, for the pace of writing.
    """

    def __init__(
        self,
        store: Store,
        attempt_key: str,
        budget: Budget,
        *,
        active: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timer = PhaseTimer(clock)
        self._store, self._key, self._budget = store, attempt_key, budget
        self._active, self._clock = active, clock
        self._series = Series()
        self._best: Candidate | None = None
        self._step = 0
        self._expected_s = budget.total_s
        self._message = ""
        self._written_s = self._polled_s = self._failed_s = float("-inf")

    @property
    def series(self) -> dict[str, tuple[Point, ...]]:
        """The curves so far, by name."""
        return self._series.curves

    def enter(self, phase: Phase, message: str = "") -> None:
        """Begin a phase and say so at once."""
        self.timer.enter(phase)
        self._message = message
        self._write()
        if phase != "done":  # with the manifest in place it is too late
            self.check_cancelled(at_once=True)

    def expect(self, seconds: float) -> None:
        """Say that the manifest is expected after so many seconds from now on, if the budget lasts that long."""
        self._expected_s = min(self._budget.total_s, self._budget.elapsed_s + seconds)

    def record(self, name: str, step: int, value: float) -> None:
        """Add a point to a curve, unless its value is not finite; curves are bounded in size."""
        self._series.record(name, step, self._budget.elapsed_s, value)

    def found(self, candidate: Candidate) -> None:
        """Name an architecture; the best by held-out accuracy is kept."""
        if self._best is None or candidate.query_accuracy >= self._best.query_accuracy:
            self._best = candidate

    def tick(self, step: int) -> None:
        """Say how far the work is, if a second has passed; stop if a cancel has come.

        Raises:
            CancelledError: `control.json` asks to stop.
        """
        self._step = step
        if self._clock() - self._written_s >= WRITE_EVERY_S:
            self._write()
        self.check_cancelled()

    def check_cancelled(self, *, at_once: bool = False) -> None:
        """Raise `CancelledError` if `control.json` asks to stop; looks every two seconds, or at once."""
        now_s = self._clock()
        if not self._active or self._pauses() or (now_s - self._polled_s < POLL_EVERY_S and not at_once):
            return
        self._polled_s = now_s
        try:
            control = Control.from_stored(self._store.get_bytes(f"{self._key}/control.json"), "control.json")
        except ObjectMissingError:
            return
        except StoreError as error:
            log.warning("control.json cannot be read now: %s", error)
            self._failed_s = self._clock()
            return
        if control.desired == "cancel":
            raise CancelledError("the adaptation was cancelled")

    def _pauses(self) -> bool:
        return self._clock() - self._failed_s < PAUSE_S

    def _write(self) -> None:
        if not self._active or self._pauses():
            return
        self._written_s = self._clock()
        done = self.timer.phase == "done"
        progress = Progress(
            phase=self.timer.phase,
            fraction=1.0 if done else min(0.99, max(0.0, self._budget.elapsed_s / self._expected_s)),
            elapsed_s=round(self._budget.elapsed_s, 3),
            eta_s=0.0 if done else round(max(0.0, self._expected_s - self._budget.elapsed_s), 1),
            phases_s=dict(self.timer.seconds()),
            step=self._step,
            best=self._best,
            series=self.series,
            message=self._message,
            updated_at=time.time(),
        )
        try:
            self._store.put_bytes(
                f"{self._key}/progress.json", progress.model_dump_json().encode(), media_type="application/json"
            )
        except StoreError as error:
            # Progress is advice: a store that is away for a moment must not cost the work.
            log.warning("progress.json cannot be written now: %s", error)
            self._failed_s = self._clock()
