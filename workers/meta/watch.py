"""What people see of an attempt: progress, events, curves. Adds up; writes nothing itself."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Final, Protocol

from workers.contracts.meta_runs import (
    Adjustment,
    Counters,
    EventKind,
    MetaEvent,
    MetaPhase,
    MetaProgress,
    WorkerView,
)
from workers.contracts.series import Series
from workers.meta.parameters import Pushed, SlotReport, Standing, StepReport
from workers.meta.trying import TriedTask

log = logging.getLogger("archprior.meta")

MAX_EVENTS: Final = 500
SPEED_WINDOW_S: Final = 30.0
NUM_RECENT: Final = 20
TICK_S: Final = 1.0
# Of the work of a run that makes trials: how long those take shows only when the first are made.
LEARNING_SHARE: Final = 0.7


class Outlet(Protocol):
    """Where progress and events go. Must not wait for a slow store."""

    def progress(self, progress: MetaProgress) -> None:
        """Take the newest progress; an older one that was not written yet may be forgotten."""
        ...

    def events(self, events: Sequence[MetaEvent]) -> None:
        """Take the last events."""
        ...


class LogLines:
    """Writes what happens to the job's log, which the Ray dashboard shows: each event, and how far the run is.

    Args:
        every_s: Seconds between two lines of progress.
        clock: Monotonic seconds.
    """

    def __init__(self, every_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s, self._clock = every_s, clock
        self._written_s = float("-inf")
        self._sequence = 0

    def progress(self, progress: MetaProgress) -> None:
        """Write a line, if the last one is old enough."""
        if self._clock() - self._written_s < self._every_s:
            return
        self._written_s = self._clock()
        loss = "" if progress.loss is None else f", loss {progress.loss:.3f}"
        eta = "" if progress.eta_s is None else f", {progress.eta_s:.0f} s left"
        message = f"; {progress.message}" if progress.message else ""
        num_up = sum(worker.state != "starting" for worker in progress.workers)
        tried = f", trial {progress.num_tried} of {progress.num_trials}" if progress.phase == "trying" else ""
        log.info(
            "%s: step %d of %d%s%s, %.2f slots/s by %d workers%s%s",
            progress.phase,
            progress.step,
            progress.num_steps,
            tried,
            loss,
            progress.slots_per_s,
            num_up,
            eta,
            message,
        )

    def events(self, events: Sequence[MetaEvent]) -> None:
        """Write those that are new."""
        for event in events:
            if event.sequence > self._sequence:
                self._sequence = event.sequence
                log.info("%s at step %d: %s", event.kind, event.step, event.message)


class Watch:
    """Counts, remembers, tells.

    Args:
        outlets: Told at most once a second, and at each event.
        num_steps: Of the run.
        num_trials: That it makes after them.
        budget_s: Seconds of learning that this attempt may take; None: no limit.
        clock: Monotonic seconds.
        wall: Seconds since the epoch.
    """

    def __init__(
        self,
        outlets: Sequence[Outlet],
        *,
        num_steps: int,
        num_trials: int = 0,
        budget_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._outlets, self._num_steps, self._num_trials, self._budget_s = outlets, num_steps, num_trials, budget_s
        self._clock, self._wall = clock, wall
        self.cap: int | None = None
        self._phase: MetaPhase = "starting"
        self._message = self._waiting = ""
        self._seconds: dict[str, float] = {}
        self._phase_since_s = clock()
        self._began_s: float | None = None
        self._ended_s: float | None = None
        self._paused_s = 0.0
        self._first_step = self._step = 0
        self._num_tried = self._num_known = 0
        self._counts = dict.fromkeys(Counters.model_fields, 0)
        self._workers: tuple[WorkerView, ...] = ()
        self._done_at_s: deque[float] = deque()
        self._recent: deque[StepReport] = deque(maxlen=NUM_RECENT)
        self._waits: deque[tuple[float, float]] = deque(maxlen=1000)
        self._total_s = self._waited_s = 0.0
        self._adjustments: list[Adjustment] = []
        self._checkpoint_step: int | None = None
        self._series = Series()
        self._events: deque[MetaEvent] = deque(maxlen=MAX_EVENTS)
        self._num_events = 0
        self._told_s = float("-inf")

    @property
    def counters(self) -> Counters:
        """What was done and lost so far."""
        return Counters(**self._counts)

    @property
    def adjustments(self) -> tuple[Adjustment, ...]:
        """What faults changed of the numbers."""
        return tuple(self._adjustments)

    @property
    def data_wait(self) -> float:
        """Share of the workers' time spent waiting for data, over the attempt."""
        return self._waited_s / self._total_s if self._total_s else 0.0

    @property
    def learning_s(self) -> float:
        """Seconds of learning in this attempt."""
        if self._began_s is None:
            return 0.0
        return (self._clock() if self._ended_s is None else self._ended_s) - self._began_s - self._paused_s

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each phase so far."""
        now_s = self._clock()
        return {**self._seconds, self._phase: self._seconds.get(self._phase, 0.0) + now_s - self._phase_since_s}

    def enter(self, phase: MetaPhase, message: str = "") -> None:
        """A phase begins."""
        self._seconds = self.seconds()
        self._phase, self._message, self._phase_since_s = phase, message, self._clock()
        if phase == "learning" and self._began_s is None:
            self._began_s = self._clock()
        if phase in {"trying", "judging", "publishing"} and self._ended_s is None:
            self._ended_s = self._clock()
        self.event("phase", f"{phase}: {message}" if message else phase)

    def paused(self, seconds: float) -> None:
        """So many seconds have passed without any worker wanted: they are not spent on learning."""
        if self._ended_s is None:
            self._paused_s += seconds

    def say(self, message: str) -> None:
        """Say what the run waits for; empty: it goes on."""
        self._waiting = message

    def began(self, standing: Standing) -> None:
        """The parameter actor is up."""
        self._step = standing.version
        # Where steps are taken again, the time that they took before counts too.
        self._first_step = self._step if self._began_s is None else min(self._first_step, self._step)
        self._checkpoint_step = standing.checkpoint_step
        self._adjustments = list(standing.adjustments) or self._adjustments
        if standing.checkpoint_step is not None:
            self.event("resumed", f"going on from the checkpoint of step {standing.checkpoint_step}")

    def computed(self, report: SlotReport) -> None:
        """A worker has computed a slot."""
        self._done_at_s.append(self._clock())
        self._waits.append((report.waited_s, report.seconds))
        self._waited_s += report.waited_s
        self._total_s += report.seconds

    def duplicate(self) -> None:
        """A slot came twice; the first counted."""
        self._counts["duplicate"] += 1

    def backups(self, number: int) -> None:
        """So many slow items were given to a second worker, in all."""
        self._counts["backups"] = number

    def pushed(self, pushed: Pushed) -> None:
        """The parameter actor has taken, or dropped, a gradient."""
        name = {"accepted": "slots"}.get(pushed.outcome, pushed.outcome)
        self._counts[name] += 1
        if pushed.outcome == "not_finite":
            self.event("warning", "a gradient that is not finite was dropped")

    def stepped(self, step: StepReport) -> None:
        """The prior has taken a step."""
        self._step = step.version
        self._recent.append(step)
        self._record("loss", step.version, step.loss)
        self._record("entropy", step.version, fmean(step.entropies))
        self._record("staleness", step.version, step.staleness)
        for group, norm in step.norms.items():
            self._record(f"gradient norm of {group}", step.version, norm)

    def judged(self, subject: str, version: int | None, accuracy: dict[int, float]) -> None:
        """A prior was judged on held-out tasks."""
        data = {f"after {steps} steps": value for steps, value in accuracy.items()}
        if version is not None:
            for steps, value in accuracy.items():
                self._record(f"held-out accuracy after {steps} steps", version, value)
        listed = ", ".join(f"{value:.1%} after {steps} steps" for steps, value in accuracy.items())
        self.event("judged", f"{subject}: {listed}", data)

    def trying(self, num_known: int) -> None:
        """Trials are made from now on; so many are there from earlier attempts."""
        self._num_tried = self._num_known = num_known
        self.enter("trying", "architectures on tasks of the run")

    def tried(self, task: TriedTask | None) -> None:
        """A trial is made; `task`: its task, if that was the last one of it."""
        self._num_tried += 1
        if task is not None:
            data, told = {"best": task.best}, f"trial task {task.task}: {task.best:.1%} by the best"
            if task.mode is not None:
                data, told = {"mode": task.mode, **data}, f"{told}, {task.mode:.1%} by the prior's mode"
            self.event("tried", told, data)

    def saved(self, step: int) -> None:
        """A checkpoint is whole."""
        self._checkpoint_step = step
        self.event("checkpoint", f"checkpoint of step {step}")

    def adjusted(self, adjustment: Adjustment) -> None:
        """A fault has changed the numbers of the run."""
        self._adjustments.append(adjustment)
        self.event("adjusted", f"batches are divided by {adjustment.value} from now on: {adjustment.why}")

    def lost(self, worker: str, why: str) -> None:
        """A worker died or hung."""
        self._counts["lost_workers"] += 1
        self.event("worker_lost", f"{worker}: {why}")

    def server_lost(self, why: str, version: int) -> None:
        """The parameter actor was lost at a version; its successor begins at the last checkpoint."""
        self._counts["recomputed_steps"] += version - (self._checkpoint_step or 0)
        self.event("warning", f"the parameter actor was lost at step {version}: {why}")

    def event(self, kind: EventKind, message: str, data: dict[str, float] | None = None) -> None:
        """Something has happened that people may want to know."""
        self._num_events += 1
        self._events.append(
            MetaEvent(
                sequence=self._num_events, at=self._wall(), kind=kind, step=self._step, message=message, data=data or {}
            )
        )
        for outlet in self._outlets:
            outlet.events(tuple(self._events))
        self.tell()

    def tick(self, workers: tuple[WorkerView, ...]) -> None:
        """Tell how far the run is, if a second has passed."""
        self._workers = workers
        if self._clock() - self._told_s >= TICK_S:
            self.tell()

    def tell(self) -> None:
        """Tell how far the run is, now."""
        self._told_s = self._clock()
        progress = self._progress()
        for outlet in self._outlets:
            outlet.progress(progress)

    def _progress(self) -> MetaProgress:
        now_s, recent = self._clock(), self._recent
        while self._done_at_s and now_s - self._done_at_s[0] > SPEED_WINDOW_S:
            self._done_at_s.popleft()
        window_s = max(1.0, min(SPEED_WINDOW_S, self.learning_s))
        elapsed_s = self.learning_s
        fraction, eta_s = self._outlook(elapsed_s)
        slots_s = sum(seconds for _, seconds in self._waits)
        done = self._phase == "done"
        return MetaProgress(
            phase=self._phase,
            step=self._step,
            num_steps=self._num_steps,
            num_tried=self._num_tried,
            num_trials=self._num_trials,
            fraction=1.0 if done else min(0.99, fraction),
            elapsed_s=round(elapsed_s, 1),
            eta_s=0.0 if done else eta_s,
            loss=fmean(step.loss for step in recent) if recent else None,
            gradient_norms=dict(recent[-1].norms) if recent else {},
            entropies=recent[-1].entropies if recent else (),
            slots_per_s=round(len(self._done_at_s) / window_s, 3),
            staleness=fmean(step.staleness for step in recent) if recent else 0.0,
            data_wait=sum(waited for waited, _ in self._waits) / slots_s if slots_s else 0.0,
            workers=self._workers,
            max_workers=self.cap,
            counters=self.counters,
            adjustments=self.adjustments,
            checkpoint_step=self._checkpoint_step,
            series=self._series.curves,
            message=self._waiting or self._message,
            updated_at=self._wall(),
        )

    def _outlook(self, elapsed_s: float) -> tuple[float, float | None]:
        """Return the share of the work that is done, and the seconds that are left of learning, or of the trials."""
        learned, left_s = self._learning_outlook(elapsed_s)
        if not self._num_trials:
            return learned, left_s
        fraction = LEARNING_SHARE * learned + (1 - LEARNING_SHARE) * self._num_tried / self._num_trials
        if self._phase == "trying":
            made = self._num_tried - self._num_known
            trying_s = self._clock() - self._phase_since_s
            left_s = round(trying_s / made * (self._num_trials - self._num_tried), 1) if made else None
        return fraction, left_s

    def _learning_outlook(self, elapsed_s: float) -> tuple[float, float | None]:
        """Return the share of learning that is done, and its seconds that are left: by steps, or by the budget."""
        fraction = self._step / self._num_steps if self._num_steps else 0.0
        taken = self._step - self._first_step
        left_s = elapsed_s / taken * (self._num_steps - self._step) if taken > 0 else None
        if self._budget_s is not None:
            fraction = max(fraction, elapsed_s / self._budget_s if self._budget_s else 1.0)
            budget_left_s = max(0.0, self._budget_s - elapsed_s)
            left_s = budget_left_s if left_s is None else min(left_s, budget_left_s)
        return fraction, None if left_s is None else round(left_s, 1)

    def _record(self, name: str, step: int, value: float) -> None:
        self._series.record(name, step, self.learning_s, value)
