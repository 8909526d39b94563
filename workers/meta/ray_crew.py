"""The crew on Ray: a parameter actor and gradient workers, each a process of its own."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import ray
from ray import ObjectRef
from ray.exceptions import (
    ActorUnavailableError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
)

from search_spaces.errors import ArchPriorError
from workers.contracts.errors import CrewTimeoutError
from workers.contracts.loss_model import LossModel
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import Adjustment
from workers.meta.board import Errand, Judgement, Slot, Tryout
from workers.meta.checkpoints import Checkpoints
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

log = logging.getLogger("archprior.meta")

SERVER = "parameter actor"
NUM_CALLS = 2
"""That a worker is in at once: one hands over its gradient while the next computes."""
_Actor: TypeAlias = Any
"""Ray's handle of an actor, whose methods and their results have no types."""


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long the crew waits for an answer, in seconds.

    While it comes up or writes a checkpoint, its other answers are not due; their time begins anew afterwards.

    Attributes:
        answer_s: Of the parameter actor.
        save_s: Of the parameter actor, for a checkpoint: the store may be slow, and is tried again for a while.
        start_s: Of a process that has a place, until it is up with its data.
    """

    answer_s: float = 60.0
    save_s: float = 300.0
    start_s: float = 900.0


class _Reader(Protocol):
    """Makes an event of what a call returned, or of how it failed."""

    def __call__(self, result: Any, error: RayError | None) -> Event | None: ...


@dataclass(frozen=True)
class _Call:
    what: str
    actor: str
    deadline_s: float | None
    read: _Reader
    is_long: bool = False


class RayCrew:
    """Starts the actors, and turns what becomes of their calls into events.

    Args:
        config: Of the run.
        load: Reads the run's data, in each worker.
        open_checkpoints: Returns the run's, in the parameter actor.
        share: CPUs and GPUs of each worker; a worker has as many threads as CPUs.
        parent: Tensors of the prior to begin from, packed.
        label: Begins the speaking names of the actors and of their tasks: the id of the attempt's job.
        timeouts: How long to wait.
    """

    def __init__(
        self,
        config: MetaConfig,
        load: Callable[[], MetaData],
        open_checkpoints: Callable[[], Checkpoints],
        *,
        share: Share,
        parent: Flat | None = None,
        label: str,
        timeouts: Timeouts,
    ) -> None:
        self._config, self._load, self._open_checkpoints = config, load, open_checkpoints
        self._share, self._parent, self._label, self._timeouts = share, parent, label, timeouts
        self._server: _Actor = None
        self._num_servers = 0
        self._workers: dict[str, _Actor] = {}
        self._calls: dict[ObjectRef[Any], _Call] = {}

    def start_server(self, class_names: Sequence[str]) -> None:
        self._end_server()
        self._num_servers += 1
        name = f"{self._label} parameters-{self._num_servers}"
        # No CPU of its own: a step takes milliseconds, and the CPUs are the workers'.
        server = ray.remote(ParameterServer).options(num_cpus=0, name=name)
        self._server = server.remote(self._config, tuple(class_names), self._open_checkpoints, self._parent)
        standing, prior = self._named(self._server.begin, "read a checkpoint", num_returns=2).remote()

        def read(result: Any, error: RayError | None) -> Event:
            return ServerReady(result, prior) if error is None else self._server_failed(error)

        self._expect(standing, f"{SERVER} to come up", SERVER, self._timeouts.start_s, read, is_long=True)

    def start_worker(self, worker: str) -> None:
        remote = ray.remote(GradientWorker).options(
            num_cpus=self._share.cpus,
            num_gpus=self._share.gpus,
            max_concurrency=NUM_CALLS,
            name=f"{self._label} {worker}",
        )
        threads, use_gpu = self._share.cpus, self._share.gpus > 0
        handle: _Actor = remote.remote(self._config, self._load, num_threads=threads, use_gpu=use_gpu)
        self._workers[worker] = handle

        def read(result: Any, error: RayError | None) -> Event:
            if error is None:
                return Joined(worker, result, handle._actor_id.hex())
            return self._worker_failed(worker, error)

        # A worker without a place waits for one for as long as it takes: the coordinator decides whether to go on.
        prepared = self._named(handle.prepare, "load the datasets").remote()
        self._expect(prepared, f"{worker} to come up", worker, None, read)

    def stop_worker(self, worker: str) -> None:
        handle = self._workers.pop(worker, None)
        self._forget(worker)
        if handle is not None:
            ray.kill(handle)

    def compute(self, worker: str, slot: Slot, *, prior: Handle, version: int, hint: Slot | None, divisor: int) -> None:
        call = self._named(self._workers[worker].compute, "compute a slot", num_returns=2)
        report, gradient = call.remote(prior, version, slot, hint, divisor)

        def read(result: Any, error: RayError | None) -> Event:
            if error is None:
                return Computed(worker, result, gradient)
            if isinstance(error, OutOfMemoryError):  # Ray ended the process before the machine ran out
                self.stop_worker(worker)
                spent = SlotReport(slot=slot, version=version, batch_divisor=divisor, out_of_memory=True, finite=False)
                return Lost(worker, _first_line(error), short_of_memory=spent)
            if _is_lost(error):
                return PriorLost(worker, prior, _first_line(error))
            return self._worker_failed(worker, error)

        self._expect(report, f"{worker} to compute {slot}", worker, None, read)

    def judge(self, worker: str, judgement: Judgement, *, prior: Handle) -> None:
        call = self._named(self._workers[worker].judge, "judge a prior").remote(prior, judgement.number)
        self._expect_errand(call, worker, judgement, lambda result: Judged(worker, judgement, result))

    def try_out(self, worker: str, tryout: Tryout, *, prior: Handle, known: LossModel | None) -> None:
        call = self._named(self._workers[worker].try_out, "try an architecture").remote(prior, tryout, known)
        self._expect_errand(call, worker, tryout, lambda result: Tried(worker, tryout, result))

    def _expect_errand(self, call: "ObjectRef[Any]", worker: str, errand: Errand, done: Callable[[Any], Event]) -> None:
        def read(result: Any, error: RayError | None) -> Event:
            if error is None:
                return done(result)
            if _is_lost(error):
                todo = "Another attempt goes on from the last checkpoint."
                return Failed(CrewTimeoutError(f"the prior of {errand} was lost with its node", todo=todo))
            return self._worker_failed(worker, error)

        self._expect(call, f"{worker} to come to {errand}", worker, None, read)

    def push(self, report: SlotReport, gradient: Handle) -> None:
        self._push(report, gradient, time.monotonic() + self._timeouts.answer_s)

    def _push(self, report: SlotReport, gradient: Handle, deadline_s: float) -> None:
        if self._server is None:
            return  # its successor begins at a checkpoint, and has this slot computed again
        pushed, prior = self._named(self._server.push, "take a gradient", num_returns=2).remote(report, gradient)

        def read(result: Any, error: RayError | None) -> Event | None:
            if error is None:
                return Applied(report.slot, result, prior)
            if isinstance(error, ActorUnavailableError) and time.monotonic() < deadline_s:
                self._push(report, gradient, deadline_s)  # whether it arrived is not known: it counts once anyway
                return None
            if _is_lost(error):
                return GradientLost(report.slot, _first_line(error))
            return self._server_failed(error)

        self._calls[pushed] = _Call(f"{SERVER} to take {report.slot}", SERVER, deadline_s, read)

    def save(self) -> None:
        if self._server is not None:

            def read(result: Any, error: RayError | None) -> Event:
                return Saved(result) if error is None else self._server_failed(error)

            what = f"{SERVER} to write a checkpoint"
            call = self._named(self._server.save, "write a checkpoint").remote()
            self._expect(call, what, SERVER, self._timeouts.save_s, read, is_long=True)

    def adjust(self, adjustment: Adjustment) -> None:
        if self._server is not None:
            call = self._named(self._server.adjust, "note an adjustment").remote(adjustment)
            self._expect(call, f"{SERVER} to note an adjustment", SERVER, self._timeouts.answer_s, self._silent)

    def note_judged(self, version: int, accuracy: dict[int, float]) -> None:
        if self._server is not None:
            call = self._named(self._server.judged, "note a judgement").remote(version, accuracy)
            self._expect(call, f"{SERVER} to note a judgement", SERVER, self._timeouts.answer_s, self._silent)

    def log(self) -> tuple[StepEntry, ...]:
        if self._server is None:
            return ()
        try:
            call = self._named(self._server.log, "hand out the log").remote()
            entries: tuple[StepEntry, ...] = ray.get(call, timeout=self._timeouts.answer_s)
        except RayError as error:
            raise _timed_out(f"{SERVER} to hand out its log", self._timeouts.answer_s) from error
        return entries

    def fetch(self, handle: Handle) -> Flat:
        """Return what a handle stands for.

        Raises:
            CrewTimeoutError: Its node does not answer in time.
        """
        ref: Any = handle
        try:
            flat: Flat = handle if isinstance(handle, Flat) else ray.get(ref, timeout=self._timeouts.answer_s)
        except RayError as error:
            raise _timed_out("prior to be handed out", self._timeouts.answer_s) from error
        return flat

    def room(self) -> Room:
        free = ray.available_resources()
        return Room(cpus=free.get("CPU", 0.0), gpus=free.get("GPU", 0.0))

    def wait(self, timeout_s: float) -> list[Event]:
        ready: list[ObjectRef[Any]] = []
        if self._calls:
            ready, _ = ray.wait(list(self._calls), timeout=timeout_s)
            if ready and len(self._calls) > 1:
                ready, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        else:
            time.sleep(timeout_s)
        events = [event for ref in ready for event in self._read(ref)]
        return events + list(self._overdue())

    def close(self) -> None:
        for worker in tuple(self._workers):
            self.stop_worker(worker)
        self._end_server()

    def _named(self, method: Any, what: str, *, num_returns: int = 1) -> Any:
        """Return a method whose tasks bear that name in the dashboard; each name is a series of its metrics, too."""
        return method.options(name=f"{self._label} {what}", num_returns=num_returns)

    def _read(self, ref: "ObjectRef[Any]") -> Iterable[Event]:
        call = self._calls.pop(ref, None)
        if call is None:  # forgotten by what was read a moment ago
            return
        if call.is_long:
            due_s = time.monotonic() + self._timeouts.answer_s
            late = {other: it for other, it in self._calls.items() if it.deadline_s is not None}
            self._calls |= {
                other: replace(it, deadline_s=max(due_s, it.deadline_s or 0.0)) for other, it in late.items()
            }
        try:
            event = call.read(ray.get(ref), None)
        except RayError as error:
            event = call.read(None, error)
        if event is not None:
            yield event

    def _overdue(self) -> Iterable[Event]:
        now_s = time.monotonic()
        # The actor does one thing after the other: what waits behind a long one is not late.
        long_s = max((call.deadline_s or 0.0 for call in self._calls.values() if call.is_long), default=0.0)
        for call in tuple(self._calls.values()):
            if call.deadline_s is not None and now_s > max(call.deadline_s, long_s):
                self._end_server()  # only its calls have a deadline here; workers are the coordinator's to judge
                yield ServerLost(f"waited too long for the {call.what}")
                return

    def _expect(
        self,
        ref: "ObjectRef[Any]",
        what: str,
        actor: str,
        timeout_s: float | None,
        read: _Reader,
        *,
        is_long: bool = False,
    ) -> None:
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._calls[ref] = _Call(what, actor, deadline_s, read, is_long)

    def _silent(self, result: Any, error: RayError | None) -> Event | None:  # noqa: ARG002 -- nothing comes back
        return None if error is None else self._server_failed(error)

    def _server_failed(self, error: RayError) -> Event:
        refusal = _refusal(error)
        self._end_server()
        return ServerLost(_first_line(error)) if refusal is None else Failed(refusal)

    def _worker_failed(self, worker: str, error: RayError) -> Event:
        refusal = _refusal(error)
        self.stop_worker(worker)
        return Lost(worker, _first_line(error)) if refusal is None else Failed(refusal)

    def _end_server(self) -> None:
        server, self._server = self._server, None
        self._forget(SERVER)
        if server is not None:
            ray.kill(server)

    def _forget(self, actor: str) -> None:
        self._calls = {ref: call for ref, call in self._calls.items() if call.actor != actor}


def _refusal(error: RayError) -> ArchPriorError | None:
    """Return the error of ours that a call ended with, if it is one that another try would not mend."""
    cause = error.cause if isinstance(error, RayTaskError) else None
    return cause if isinstance(cause, ArchPriorError) else None


def _is_lost(error: RayError) -> bool:
    """Return whether a call failed because an object that it was handed is gone."""
    return isinstance(error.cause if isinstance(error, RayTaskError) else error, ObjectLostError)


def _first_line(error: RayError) -> str:
    return str(error).strip().partition("\n")[0][:300]


def _timed_out(what: str, seconds: float) -> CrewTimeoutError:
    return CrewTimeoutError(
        f"waited {seconds:.0f} s for the {what}",
        todo="Look at the node's load and at the actor's log in the Ray dashboard; a resumed run goes on from the "
        "last checkpoint.",
    )
