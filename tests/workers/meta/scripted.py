"""A crew without Ray: real workers and a real parameter server in this process, in a world that a test scripts.

Its clock goes on only as things happen, and nobody waits for it.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from search_spaces.errors import ArchPriorError
from workers.contracts.errors import StoreError
from workers.contracts.loss_model import LossModel
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import Adjustment, MetaControl, MetaEvent, MetaProgress
from workers.meta.board import Judgement, Slot, Tryout
from workers.meta.checkpoints import Checkpoints
from workers.meta.coordinator import Coordinator
from workers.meta.crew import (
    Applied,
    Computed,
    Event,
    Failed,
    GradientLost,
    Handle,
    Joined,
    Judged,
    Lost,
    PriorLost,
    Saved,
    ServerLost,
    ServerReady,
    Tried,
)
from workers.meta.elastic import Room, Share
from workers.meta.flat import Flat
from workers.meta.gradient_worker import GradientWorker
from workers.meta.learning.data import MetaData
from workers.meta.learning.log import StepEntry
from workers.meta.parameters import ParameterServer, SlotReport
from workers.meta.rules import Rules
from workers.meta.watch import Watch
from workers.store.folder import FolderStore
from workers.tasks.distribution import ClassImages

START_S, SLOT_S, PUSH_S = 1.0, 1.0, 0.01
# Of waits: no run of these tests comes near it, so a run that never ends fails.
MAX_WAITS = 1500


class Clock:
    """Seconds that pass only when a test says so."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class FakeCrew:
    """Real workers and a real parameter server, in a world with these wishes:

    Attributes:
        fate: What becomes of a computation, by worker, slot, divisor and how often that slot was begun before: `fine`,
            `dies`, `hangs`, `twice`, `out of memory`, `not finite`, `prior lost`,
            `killed for memory`.
        push_fate: What becomes of a gradient on its way, by slot and how many were pushed before: `fine`, `lost`,
            `twice`, `answer lost`, `server dies`, or `server dies after`, with the gradient taken and no answer.
        try_fate: What becomes of a trial, by worker, trial and how often it was begun before: `fine`, `dies`, `hangs`,
            `twice`, `short of memory`.
        save_fate: What becomes of a checkpoint, by how many were asked for before: `fine`, `fails`, `server dies`.
        slot_s: Seconds that a worker takes for a slot, or for a trial.
        places: Workers that the cluster has room for.
    """

    def __init__(
        self,
        config: MetaConfig,
        load: Callable[[], MetaData],
        open_checkpoints: Callable[[], Checkpoints],
        clock: Clock,
    ) -> None:
        self._config, self._load, self._open_checkpoints, self.clock = config, load, open_checkpoints, clock
        self.fate: Callable[[str, Slot, int, int], str] = lambda worker, slot, divisor, before: "fine"
        self.push_fate: Callable[[Slot, int], str] = lambda slot, before: "fine"
        self.try_fate: Callable[[str, Tryout, int], str] = lambda worker, tryout, before: "fine"
        self.save_fate: Callable[[int], str] = lambda before: "fine"
        self.slot_s: Callable[[str, Slot | Tryout], float] = lambda worker, slot: SLOT_S
        self.push_s = PUSH_S
        self.places = 8
        self.begun: list[tuple[str, Slot, int]] = []
        self.judgements: list[tuple[str, Judgement]] = []
        self.tryouts: list[tuple[str, Tryout]] = []
        self.pushed: list[Slot] = []
        self.in_flight = self.most_in_flight = 0
        self.workers: dict[str, GradientWorker] = {}
        self.stopped: list[str] = []
        self.server: ParameterServer | None = None
        self.num_servers = self.num_saves = self.num_waits = 0
        self._waiting: list[str] = []
        self._free_s: dict[str, float] = {}
        self._due: list[tuple[float, int, str, Callable[[], Sequence[Event]]]] = []
        self._num_due = 0

    def at(self, in_s: float, tell: Callable[[], Sequence[Event]], actor: str = "") -> None:
        """Have something happen in so many seconds."""
        self._num_due += 1
        self._due.append((self.clock.now_s + in_s, self._num_due, actor, tell))

    def after(self, worker: str, seconds: float, tell: Callable[[], Sequence[Event]]) -> None:
        """Have a worker do something that takes so many seconds, after what it was given before."""
        begins_s = max(self.clock.now_s, self._free_s.get(worker, 0.0))
        self._free_s[worker] = begins_s + seconds
        if seconds < math.inf:
            self.at(begins_s + seconds - self.clock.now_s, tell, worker)

    def start_server(self, class_names: Sequence[str]) -> None:
        self.num_servers += 1
        server = self.server = ParameterServer(self._config, tuple(class_names), self._open_checkpoints, None)

        def ready() -> Sequence[Event]:
            standing, prior = server.begin()
            return [ServerReady(standing, prior)]

        self.at(START_S, ready, "server")

    def start_worker(self, worker: str) -> None:
        self._waiting.append(worker)
        self._seat()

    def stop_worker(self, worker: str) -> None:
        self.workers.pop(worker, None)
        if worker in self._waiting:
            self._waiting.remove(worker)
        self._forget(worker)
        self.stopped.append(worker)

    def kill(self, worker: str) -> None:
        """End a worker now."""
        self._forget(worker)
        self.at(0.0, lambda: [Lost(worker, "it was killed")], worker)

    def compute(self, worker: str, slot: Slot, *, prior: Handle, version: int, hint: Slot | None, divisor: int) -> None:
        before = sum(slot == begun for _, begun, _ in self.begun)
        self.begun.append((worker, slot, divisor))
        computer, seconds = self.workers[worker], self.slot_s(worker, slot)
        fate = self.fate(worker, slot, divisor, before)
        spent = SlotReport(slot=slot, version=version, batch_divisor=divisor, out_of_memory=True, finite=False)

        def done() -> Sequence[Event]:
            if fate == "out of memory":
                return [Computed(worker, spent, None)]
            if fate == "killed for memory":
                self._forget(worker)
                return [Lost(worker, "the node ran out of memory", short_of_memory=spent)]
            if fate == "prior lost":
                return [PriorLost(worker, prior, "its node is gone")]
            if fate == "not finite":
                return [Computed(worker, SlotReport(slot=slot, version=version, finite=False), None)]
            report, gradient = computer.compute(prior, version, slot, None, divisor)
            return [Computed(worker, report, gradient)] * (2 if fate == "twice" else 1)

        def died() -> Sequence[Event]:
            self._forget(worker)
            return [Lost(worker, f"it died on {slot}")]

        self.after(worker, math.inf if fate == "hangs" else seconds, died if fate == "dies" else done)

    def judge(self, worker: str, judgement: Judgement, *, prior: Handle) -> None:
        self.judgements.append((worker, judgement))
        computer = self.workers[worker]
        self.after(worker, SLOT_S, lambda: [Judged(worker, judgement, computer.judge(prior, judgement.number))])

    def try_out(self, worker: str, tryout: Tryout, *, prior: Handle, known: LossModel | None) -> None:
        before = sum(tryout == begun for _, begun in self.tryouts)
        self.tryouts.append((worker, tryout))
        fate, maker = self.try_fate(worker, tryout, before), self.workers[worker]

        def done() -> Sequence[Event]:
            trial = None if fate == "short of memory" else maker.try_out(prior, tryout, known)
            return [Tried(worker, tryout, trial)] * (2 if fate == "twice" else 1)

        def died() -> Sequence[Event]:
            self._forget(worker)
            return [Lost(worker, f"it died on {tryout}")]

        seconds = self.slot_s(worker, tryout)
        self.after(worker, math.inf if fate == "hangs" else seconds, died if fate == "dies" else done)

    def push(self, report: SlotReport, gradient: Handle) -> None:
        fate = self.push_fate(report.slot, len(self.pushed))
        self.pushed.append(report.slot)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        server = self.server

        def arrived() -> Sequence[Event]:
            self.in_flight -= 1
            if fate == "answer lost":  # and pushed again
                server.push(report, gradient)
            if fate == "lost":
                return [GradientLost(report.slot, "its node is gone")]
            if fate == "server dies":
                return self._end_server()
            try:
                pushed, prior = server.push(report, gradient)
                if fate == "twice":
                    assert server.push(report, gradient)[0].outcome in {"duplicate", "stale"}
            except ArchPriorError as error:
                return [Failed(error)]
            return self._end_server() if fate == "server dies after" else [Applied(report.slot, pushed, prior)]

        self.at(self.push_s, arrived, "server")

    def save(self) -> None:
        fate, server = self.save_fate(self.num_saves), self.server
        self.num_saves += 1

        def saved() -> Sequence[Event]:
            if fate == "fails":
                return [Failed(StoreError("the store is away"))]
            if fate == "server dies":
                return self._end_server()
            return [Saved(server.save())]

        self.at(PUSH_S, saved, "server")

    def adjust(self, adjustment: Adjustment) -> None:
        self.server.adjust(adjustment)

    def note_judged(self, version: int, accuracy: dict[int, float]) -> None:
        self.server.judged(version, accuracy)

    def log(self) -> tuple[StepEntry, ...]:
        return self.server.log()

    def fetch(self, handle: Handle) -> Flat:
        assert isinstance(handle, Flat)
        return handle

    def room(self) -> Room:
        return Room(cpus=max(0, self.places - len(self.workers) - len(self._waiting)), gpus=0)

    def wait(self, timeout_s: float) -> list[Event]:
        self.num_waits += timeout_s > 0
        assert self.num_waits < MAX_WAITS, "the run does not end"
        self._seat()
        until_s = self.clock.now_s + timeout_s
        due = [entry for entry in self._due if entry[0] <= until_s]
        if not due:
            self.clock.now_s = until_s
            return []
        first_s = self.clock.now_s = max(self.clock.now_s, min(due)[0])
        events: list[Event] = []
        for entry in sorted(entry for entry in due if entry[0] <= first_s):
            if entry in self._due:  # else it was forgotten by what happened a moment ago
                self._due.remove(entry)
                events += entry[3]()
        return events

    def close(self) -> None:
        for worker in tuple(self.workers):
            self.stop_worker(worker)
        self.server = None

    def _seat(self) -> None:
        """Let workers come up that the cluster has room for."""
        while self._waiting and len(self.workers) < self.places:
            worker = self._waiting.pop(0)
            made = self.workers[worker] = GradientWorker(self._config, self._load, num_threads=1, use_gpu=False)
            self.at(START_S, partial(self._joined, worker, made), worker)

    def _joined(self, worker: str, made: GradientWorker) -> Sequence[Event]:
        try:
            return [Joined(worker, made.prepare(), "")]
        except ArchPriorError as error:
            return [Failed(error)]

    def _end_server(self) -> Sequence[Event]:
        self.server = None
        self.in_flight = 0
        self._forget("server")
        return [ServerLost("it was killed")]

    def _forget(self, actor: str) -> None:
        self._due = [entry for entry in self._due if entry[2] != actor]


class Told:
    """An outlet that remembers."""

    def __init__(self) -> None:
        self.newest: MetaProgress | None = None
        self.all_events: list[MetaEvent] = []

    def progress(self, progress: MetaProgress) -> None:
        self.newest = progress

    def events(self, events: Sequence[MetaEvent]) -> None:
        known = self.all_events[-1].sequence if self.all_events else 0
        self.all_events += [event for event in events if event.sequence > known]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.all_events]


class Run:
    """One meta-run, or one attempt of it, in a scripted world."""

    def __init__(self, config: MetaConfig, classes: ClassImages, folder: Path, *, held_out: bool = False) -> None:
        self.config, self.clock, self.told = config, Clock(), Told()
        self.store = FolderStore(folder, create=True)
        self.data = MetaData(
            meta_train=classes, meta_validation=classes if held_out else None, learned_from=(), dataset_weights=None
        )
        self.crew = FakeCrew(config, lambda: self.data, lambda: Checkpoints(self.store, "checkpoints"), self.clock)
        trials = config.trials
        num_trials = 0 if trials is None else trials.num_tasks * trials.num_archs
        self.watch = Watch(
            [self.told], num_steps=config.num_steps, num_trials=num_trials, clock=self.clock, wall=self.clock
        )
        self.control: Callable[[], MetaControl] = MetaControl

    def coordinator(self, *, max_workers: int | None, curve_tasks: int = 1, **rules: object) -> Coordinator:
        made = Rules(
            config=self.config,
            share=Share(cpus=1, gpus=0),
            max_workers=max_workers,
            curve_tasks=curve_tasks,
            **rules,
        )
        return Coordinator(made, self.crew, self.watch, lambda: self.control(), self.clock)
