"""The two ends of `bench-actor`: the actor, and a client.

Torch is imported inside the actor's methods: who holds an actor's handle loads its class, and 64 clients with torch
would need 20 GB.
"""

import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import ray
from numpy.typing import NDArray

from workers.contracts.meta_config import MetaConfig

CLASS_NAMES: Final = tuple(f"class {label}" for label in range(20))


class Door:
    """The parameter actor, which hands every gradient the next open slot, and counts."""

    def __init__(self, config: MetaConfig, folder: Path) -> None:
        from workers.meta.checkpoints import Checkpoints
        from workers.meta.parameters import ParameterServer
        from workers.store.folder import FolderStore

        def checkpoints() -> Checkpoints:
            return Checkpoints(FolderStore(folder, create=True), "never-written")

        self._server = ParameterServer(config, CLASS_NAMES, checkpoints, None)
        self._server.begin()
        self._num_slots, self._updates, self._busy_s = config.num_slots, 0, 0.0

    def take(self, packed: tuple[str, NDArray[np.float32]]) -> tuple[bool, tuple[str, NDArray[np.float32]] | None]:
        """Take a gradient as a run's actor does; return whether that completed a step, and the new version."""
        from workers.meta.board import Slot
        from workers.meta.flat import Flat
        from workers.meta.parameters import SlotReport

        began_s = time.perf_counter()
        step, number = divmod(self._updates, self._num_slots)
        report = SlotReport(slot=Slot(step, number), version=step, loss=1.0, num_examples=1)
        pushed, prior = self._server.push(report, Flat(*packed))
        self._updates += 1
        self._busy_s += time.perf_counter() - began_s
        return pushed.step is not None, None if prior is None else (prior.layout, prior.values)

    def read(self) -> tuple[float, int, float, float]:
        """Return the time, the updates so far, the seconds spent on them, and this process's CPU seconds."""
        return time.perf_counter(), self._updates, self._busy_s, time.process_time()


class Client:
    """Pushes a prepared gradient again and again."""

    def ready(self) -> bool:
        """Return, once the process is up."""
        return True

    def run(self, server: Any, packed: tuple[str, NDArray[np.float32]], begin: float, end: float) -> float:
        """Push from one moment to another, by the clock on the wall; return the CPU seconds of one push."""
        time.sleep(max(0.0, begin - time.time()))
        count, began_s = 0, time.process_time()
        while time.time() < end:
            stepped, prior = server.take.options(num_returns=2).remote(ray.put(packed))
            if ray.get(stepped, timeout=120):
                ray.get(prior, timeout=120)
            count += 1
        return (time.process_time() - began_s) / max(1, count)
