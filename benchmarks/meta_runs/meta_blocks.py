"""A meta-run on Ray that goes block by block: it stops between two versions until it is told to go on."""

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from torch import Tensor

from benchmarks.noise import noise_classes
from benchmarks.processes import cpu_by_role, descendants
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import MetaControl
from workers.meta.board import Patience
from workers.meta.checkpoints import Checkpoints
from workers.meta.coordinator import Coordinator
from workers.meta.crew import Event, Joined
from workers.meta.elastic import Share
from workers.meta.flat import unpack
from workers.meta.learning.data import MetaData
from workers.meta.parameters import SlotReport, StepReport
from workers.meta.ray_crew import RayCrew, Timeouts
from workers.meta.rules import Learned, Rules
from workers.meta.watch import Watch
from workers.store.folder import FolderStore
from workers.tasks.distribution import ClassImages

SHARE: Final = Share(cpus=1, gpus=0)
BLOCK_TIMEOUT_S: Final = 300.0


class Together(RayCrew):
    """A crew whose workers all join at once, so that each of them takes part from the first slot on."""

    num_workers = 1

    def wait(self, timeout_s: float) -> list[Event]:
        events = [*self._early, *super().wait(timeout_s)]
        joined = [event for event in events if isinstance(event, Joined)]
        if 0 < len(joined) < self.num_workers:
            self._early = joined
            return [event for event in events if not isinstance(event, Joined)]
        self._early = []
        return events

    _early: Sequence[Event] = ()


class Gate(Watch):
    """Stops a run between two versions, until it is told to go on."""

    def __init__(self, config: MetaConfig) -> None:
        super().__init__([], num_steps=config.num_steps)
        self._last = 0
        self._open, self._reached = threading.Event(), threading.Event()
        self.slots_s = 0.0
        self.marks: dict[int, tuple[float, float]] = {}

    def computed(self, report: SlotReport) -> None:
        super().computed(report)
        self.slots_s += report.seconds

    def block(self, last: int, run: "Future[Learned]") -> None:
        """Let a run go on until a version; return when it is there, or raise what ended it before."""
        self._last = last
        self._reached.clear()
        self._open.set()
        deadline_s = time.monotonic() + BLOCK_TIMEOUT_S
        while not self._reached.wait(timeout=1.0):
            if run.done():
                run.result()
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"waited {BLOCK_TIMEOUT_S:.0f} s for version {last}")

    def end(self) -> None:
        """Never stop it again."""
        self._last = self._num_steps + 1
        self._open.set()

    def stepped(self, step: StepReport) -> None:
        super().stepped(step)
        self.marks[step.version] = time.perf_counter(), self.slots_s
        if step.version == self._last:
            self._open.clear()
            self._reached.set()
            self._open.wait()


class Distributed:
    """A meta-run on Ray, block by block.

    Args:
        config: Of the run.
        folder: For its checkpoints.
        num_workers: Gradient workers, one thread each.
        num_steps: Of a block.
        lead_in: Steps before each block that are not timed. Asynchronous workers go on while a run is stopped; what
            they have done by then must not count.
    """

    def __init__(self, config: MetaConfig, folder: Path, *, num_workers: int, num_steps: int, lead_in: int = 0) -> None:
        self._crew = Together(
            config,
            partial(load, max(config.resolutions)),
            partial(open_checkpoints, str(folder)),
            share=SHARE,
            label=folder.name,
            timeouts=Timeouts(),
        )
        self._crew.num_workers = self._num_workers = num_workers
        self._num_steps, self._lead_in, self._version = num_steps, lead_in, 0
        self.watch = Gate(config)
        # Between its blocks a run stands still for longer than any slot takes: nobody hangs then.
        patience = Patience(slow_s=3600.0, hung_s=3600.0, first_s=3600.0)
        rules = Rules(config=config, share=SHARE, max_workers=num_workers, curve_tasks=1, patience=patience)
        coordinator = Coordinator(rules, self._crew, self.watch, MetaControl)
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._learn = coordinator.learn
        self._learned: Future[Learned] | None = None

    def __enter__(self) -> "Distributed":
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.end()
        self._executor.shutdown()
        self._crew.close()

    def block(self) -> dict[str, object]:
        """Take the steps of the next block.

        Returns:
            Seconds, the share of them that workers spent on slots, and, where nothing led in, CPU seconds by process.
        """
        if self._learned is None:
            self._learned = self._executor.submit(self._learn)
        first = self._version + self._lead_in
        self._version = first + self._num_steps
        before, began_cpu_s = cpu_by_role(descendants(os.getpid())), time.process_time()
        began = time.perf_counter(), self.watch.slots_s
        self.watch.block(self._version, self._learned)
        cpu_s, after = time.process_time() - began_cpu_s, cpu_by_role(descendants(os.getpid()))
        (began_s, slots_s), (ended_s, ended_slots_s) = (
            self.watch.marks[first] if self._lead_in else began,
            self.watch.marks[self._version],
        )
        seconds = ended_s - began_s
        found: dict[str, object] = {
            "seconds": seconds,
            "busy": round((ended_slots_s - slots_s) / (seconds * self._num_workers), 4),
        }
        if self._lead_in:
            return found
        used = {role: round(after[role] - before.get(role, 0.0), 2) for role in after}
        cpu = {"coordinator": round(cpu_s, 3), **{role: value for role, value in used.items() if value > 0}}
        return {**found, "cpu_s": cpu}

    def end(self) -> str:
        """Return the hash of the prior after the last step."""
        self.watch.end()
        if self._learned is None:
            raise RuntimeError("no block was taken")
        learned = self._learned.result(timeout=BLOCK_TIMEOUT_S)
        return hash_of(unpack(self._crew.fetch(learned.prior)))


def load(resolution: int) -> MetaData:
    """Return the run's images: made, not read."""
    return MetaData(meta_train=make_classes(resolution), meta_validation=None, learned_from=())


def make_classes(resolution: int) -> ClassImages:
    """Return the images that all learn from."""
    return noise_classes(48, 100, resolution)


def open_checkpoints(folder: str) -> Checkpoints:
    """Return the checkpoints of a run in a folder."""
    return Checkpoints(FolderStore(Path(folder), create=True), "checkpoints")


def hash_of(arrays: dict[str, Tensor]) -> str:
    """Return the hash of tensors, by name, to the last bit."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
