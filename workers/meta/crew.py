"""What the coordinator asks of those who compute, and what it hears from them. Free of Ray: tests step it by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from search_spaces.errors import ArchPriorError
from workers.contracts.loss_model import LossModel
from workers.contracts.meta_runs import Adjustment
from workers.meta.board import Judgement, Slot, Tryout
from workers.meta.elastic import Room
from workers.meta.gradient_worker import WorkerInfo
from workers.meta.learning.log import StepEntry
from workers.meta.parameters import Pushed, SlotReport, Standing
from workers.meta.trials.trial import Trial

Handle = object
"""Of something large that stays where it was made: a version of the prior, or a gradient."""


@dataclass(frozen=True)
class Joined:
    """A worker has its data and can compute."""

    worker: str
    info: WorkerInfo
    actor_id: str


@dataclass(frozen=True)
class Lost:
    """A worker has died, or failed in a way that is no result.

    Attributes:
        short_of_memory: What it computed when its process was ended because the node had too little memory.
    """

    worker: str
    why: str
    short_of_memory: SlotReport | None = None


@dataclass(frozen=True)
class PriorLost:
    """A worker could not read the version that it was handed: the node that held it is gone."""

    worker: str
    prior: Handle
    why: str


@dataclass(frozen=True)
class Computed:
    """A worker has computed a slot."""

    worker: str
    report: SlotReport
    gradient: Handle


@dataclass(frozen=True)
class Judged:
    """A worker has judged a prior on a held-out task: accuracy by number of inner steps; None: its memory was short."""

    worker: str
    judgement: Judgement
    accuracy: dict[int, float] | None


@dataclass(frozen=True)
class Tried:
    """A worker has made a trial; None: its memory was short."""

    worker: str
    tryout: Tryout
    trial: Trial | None


@dataclass(frozen=True)
class ServerReady:
    """The parameter actor is up."""

    standing: Standing
    prior: Handle


@dataclass(frozen=True)
class Applied:
    """The parameter actor has taken a gradient; `prior` is the new version if that completed a step."""

    slot: Slot
    pushed: Pushed
    prior: Handle


@dataclass(frozen=True)
class GradientLost:
    """A gradient did not reach the parameter actor."""

    slot: Slot
    why: str


@dataclass(frozen=True)
class Saved:
    """A checkpoint is whole."""

    step: int


@dataclass(frozen=True)
class ServerLost:
    """The parameter actor has died, or does not answer."""

    why: str


@dataclass(frozen=True)
class Failed:
    """Something that computing again would not mend."""

    error: ArchPriorError


Event = (
    Joined
    | Lost
    | PriorLost
    | Computed
    | Judged
    | Tried
    | ServerReady
    | Applied
    | GradientLost
    | Saved
    | ServerLost
    | Failed
)


class Crew(Protocol):
    """The parameter actor and the workers. Every call returns at once; what comes of it, `wait` tells."""

    def start_server(self, class_names: Sequence[str]) -> None:
        """Start the parameter actor, in place of one that was lost. Answered by `ServerReady`."""
        ...

    def start_worker(self, worker: str) -> None:
        """Start a worker. Answered by `Joined`."""
        ...

    def stop_worker(self, worker: str) -> None:
        """End a worker, whatever it does; nothing more is heard of it."""
        ...

    def compute(self, worker: str, slot: Slot, *, prior: Handle, version: int, hint: Slot | None, divisor: int) -> None:
        """Have a worker compute a slot, once it has done what it was given before. Answered by `Computed`."""
        ...

    def judge(self, worker: str, judgement: Judgement, *, prior: Handle) -> None:
        """Have a worker judge a prior on a held-out task. Answered by `Judged`."""
        ...

    def try_out(self, worker: str, tryout: Tryout, *, prior: Handle, known: LossModel | None) -> None:
        """Have a worker make a trial. Answered by `Tried`.

        Args:
            worker: Its name.
            tryout: Which trial.
            prior: After its weights have learned.
            known: What the first half of the tasks has taught; None for those of the first half.
        """
        ...

    def push(self, report: SlotReport, gradient: Handle) -> None:
        """Hand a gradient to the parameter actor. Answered by `Applied` or `GradientLost`."""
        ...

    def save(self) -> None:
        """Have the parameter actor write a checkpoint. Answered by `Saved`."""
        ...

    def adjust(self, adjustment: Adjustment) -> None:
        """Have the parameter actor note a change of the numbers."""
        ...

    def note_judged(self, version: int, accuracy: dict[int, float]) -> None:
        """Have the parameter actor note how well a version adapts."""
        ...

    def log(self) -> tuple[StepEntry, ...]:
        """Return the parameter actor's log; the one call that waits.

        Raises:
            CrewTimeoutError: It does not answer in time.
        """
        ...

    def room(self) -> Room:
        """Return what the cluster has left beside this crew."""
        ...

    def wait(self, timeout_s: float) -> list[Event]:
        """Return what has happened, as soon as something has; empty after `timeout_s` seconds."""
        ...

    def close(self) -> None:
        """End the parameter actor and all workers."""
        ...
