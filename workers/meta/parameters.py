"""The shared meta-prior in training: takes gradients, takes steps, publishes versions. A Ray actor at the edge.

A plain class: `crew.py` makes it remote. Nothing is lost but time when its process dies: a new one begins at the last
checkpoint, and the coordinator has the steps since then computed again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Final

import torch

from workers.bayes.aggregate import aggregate, down_weight
from workers.bayes.distributions import MetaPrior
from workers.bayes.meta_gradient import MetaGradient
from workers.contracts.errors import DivergedError
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import Adjustment
from workers.meta.board import Slot
from workers.meta.checkpoints import Checkpoints
from workers.meta.flat import Flat, arrange, pack, unpack
from workers.meta.learning.log import StepEntry
from workers.meta.learning.state import MetaState

PACKED: Final = "packed"


@dataclass(frozen=True, kw_only=True)
class SlotReport:
    """What a worker says of a slot that it computed, beside the gradient.

    Attributes:
        slot: Which one.
        version: Of the prior that the gradient was taken at.
        loss: In nats per example; None where it is not finite.
        num_examples: N_t of its task.
        finite: Whether loss and gradient are; if not, there is no gradient.
        batch_divisor: By which its batches were divided.
        out_of_memory: Whether the worker had too little memory for it; there is no gradient then either.
        seconds: That the slot took.
        waited_s: Of them, waiting for data.
    """

    slot: Slot
    version: int
    loss: float | None = None
    num_examples: int = 0
    finite: bool = True
    batch_divisor: int = 1
    out_of_memory: bool = False
    seconds: float = 0.0
    waited_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one meta-step did.

    Attributes:
        version: Of the prior after it.
        loss: Mean over its slots, in nats per example.
        norms: Gradient norm by group, before clipping.
        entropies: Of each decision, in nats.
        staleness: Mean versions between its gradients and the prior that they moved.
        num_slots: Gradients that it is the mean of.
    """

    version: int
    loss: float
    norms: Mapping[str, float]
    entropies: tuple[float, ...]
    staleness: float
    num_slots: int


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What became of a gradient.

    Attributes:
        outcome: `accepted`; `duplicate` of a slot that is in already, or of a step that is over; `stale`: too old;
            `not_finite`: counted, not used.
        step: The step that it completed, if it did.
    """

    outcome: str
    step: StepReport | None = None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where the prior stands when the actor comes up.

    Attributes:
        version: Steps taken.
        checkpoint_step: Of the checkpoint that it began from; None: it began afresh.
        unjudged: Whether this version should have been judged on held-out tasks, and its log has no such entry.
        adjustments: That faults forced on the run.
    """

    version: int
    checkpoint_step: int | None
    unjudged: bool
    adjustments: tuple[Adjustment, ...]


@dataclass(kw_only=True)
class _Pending:
    gradients: dict[Slot, MetaGradient] = field(default_factory=dict)
    dropped: set[Slot] = field(default_factory=set)
    layout: str = ""

    def __len__(self) -> int:
        return len(self.gradients) + len(self.dropped)


class ParameterServer:
    """Holds the prior and its optimizers; aggregates the gradients of a step, takes it, publishes the next version.

    Args:
        config: Of the run.
        class_names: That keep a head in the run's first parts.
        open_checkpoints: Returns the run's; `begin` goes on from the last whole one.
        parent: Tensors of the prior to begin from, packed; None: fresh ones.
    """

    def __init__(
        self,
        config: MetaConfig,
        class_names: tuple[str, ...],
        open_checkpoints: Callable[[], Checkpoints],
        parent: Flat | None,
    ) -> None:
        self._config, self._open_checkpoints = config, open_checkpoints
        start = None if parent is None else MetaPrior.from_arrays(unpack(parent))
        self._state = MetaState(config, class_names, start)
        self._log: list[StepEntry] = []
        self._adjustments: list[Adjustment] = []
        self._pending = _Pending()
        self._counted: dict[Slot, int] = {}
        self._last_step: StepReport | None = None
        self._last_slots: frozenset[Slot] = frozenset()

    def begin(self) -> tuple[Standing, Flat]:
        """Go on from the last checkpoint; return where the prior stands, and its tensors with the persistent heads.

        Raises:
            CheckpointMismatchError: Another configuration wrote the checkpoint.
            StoreError: The store does not answer.
        """
        self._checkpoints = self._open_checkpoints()
        torch.set_num_threads(1)  # sums over a gradient must not depend on how many CPUs the node has
        restored_step = self._restore()
        version = self._state.step
        due = version > 0 and (version % self._config.evaluate_every == 0 or version == self._config.num_steps)
        standing = Standing(
            version=version,
            checkpoint_step=restored_step,
            unjudged=due and self._log[-1].held_out is None,
            adjustments=tuple(self._adjustments),
        )
        return standing, self._published()

    def push(self, report: SlotReport, gradient: Flat | None) -> tuple[Pushed, Flat | None]:
        """Take the gradient of a slot; return what became of it, and the new version if it completed a step.

        Pushing a slot again changes nothing, so a caller that got no answer may do so: a slot of the step that was
        taken last is answered with that step.

        Raises:
            DivergedError: No slot of a step had a finite gradient.
        """
        outcome = self._judge(report)
        if outcome not in {"accepted", "not_finite"}:
            if self._last_step is not None and report.slot in self._last_slots:
                return Pushed(outcome="duplicate", step=self._last_step), self._published()
            return Pushed(outcome=outcome), None
        self._counted[report.slot] = report.version
        if gradient is None:
            self._pending.dropped.add(report.slot)
        else:
            # A worker of another kind may lay its tensors out in another way.
            self._pending.layout = self._pending.layout or gradient.layout
            values = arrange(gradient, self._pending.layout).values.copy()
            self._pending.gradients[report.slot] = MetaGradient(
                version=report.version,
                slot=report.slot.step * self._config.num_slots + report.slot.number,
                num_examples=report.num_examples,
                # As one array: sums over it have the same bits as over its parts, for a fraction of the calls.
                arrays={PACKED: torch.from_numpy(values)},
                loss=report.loss if report.loss is not None else float("nan"),
            )
        if len(self._pending) < self._config.num_slots:
            return Pushed(outcome=outcome), None
        step = self._step()
        return Pushed(outcome=outcome, step=step), self._published()

    def adjust(self, adjustment: Adjustment) -> None:
        """Note a change of the numbers, for the checkpoints to come."""
        if adjustment not in self._adjustments:
            self._adjustments.append(adjustment)

    def judged(self, version: int, accuracy: Mapping[int, float]) -> None:
        """Note how well a version adapts to held-out tasks: mean query accuracy by number of inner steps."""
        place = version - 1
        if 0 <= place < len(self._log):  # else its step is being taken again, and will be judged again
            self._log[place] = self._log[place].model_copy(update={"held_out": dict(accuracy)})

    def save(self) -> int:
        """Write a checkpoint; return its step.

        Raises:
            StoreError: The store does not take it.
        """
        self._checkpoints.save(self._state, self._log, tuple(self._adjustments))
        return self._state.step

    def log(self) -> tuple[StepEntry, ...]:
        """Return one entry for each step of the run."""
        return tuple(self._log)

    def _judge(self, report: SlotReport) -> str:
        if report.slot in self._counted:
            return "duplicate"
        if self._config.mode == "synchronous":
            if report.slot.step != self._state.step:
                return "duplicate"
        elif self._too_old(report.version) or self._other_part(report) or self._state.step >= self._config.num_steps:
            return "stale"
        return "accepted" if report.finite else "not_finite"

    def _too_old(self, version: int) -> bool:
        """Return whether a version is too old to count; a later one is of a lineage that was lost."""
        return not 0 <= self._state.step - version <= self._config.max_staleness

    def _other_part(self, report: SlotReport) -> bool:
        """Return whether a gradient is of another part of the run than the coming step: it has other arrays."""
        joint = self._config.joint_steps
        return (report.slot.step < joint) != (self._state.step < joint)

    def _step(self) -> StepReport:
        gradients, version = list(self._pending.gradients.values()), self._state.step
        slots = {*self._pending.gradients, *self._pending.dropped}
        layout, self._pending = self._pending.layout, _Pending()
        if not gradients:
            raise DivergedError(
                f"no slot of step {version} has a finite gradient",
                todo="Lower lr or inner_lr and begin another run; the last checkpoint is whole.",
            )
        staleness = fmean(version - gradient.version for gradient in gradients)
        if self._config.mode == "asynchronous":
            discount = self._config.staleness_discount
            gradients = [down_weight(gradient, version=version, discount=discount) for gradient in gradients]
        mean = aggregate(gradients, self._config.weighting)
        done = self._state.apply(replace(mean, arrays=unpack(Flat(layout, mean.arrays[PACKED].numpy()))))
        entropies = tuple(self._state.entropies())
        asynchronous = self._config.mode == "asynchronous"
        entry = StepEntry(
            step=done.step,
            loss=done.loss,
            norms=dict(done.norms),
            entropy=entropies,
            staleness=staleness if asynchronous else None,
        )
        self._log.append(entry)
        # Pushed once more, these would be told apart by their age.
        self._counted = {slot: taken_at for slot, taken_at in self._counted.items() if not self._too_old(taken_at)}
        self._last_slots = frozenset(slots)
        self._last_step = StepReport(
            version=self._state.step,
            loss=done.loss,
            norms=done.norms,
            entropies=entropies,
            staleness=staleness,
            num_slots=len(gradients),
        )
        return self._last_step

    def _published(self) -> Flat:
        return pack(self._state.prior_with_heads.to_arrays())

    def _restore(self) -> int | None:
        restored = self._checkpoints.restore(self._state)
        if restored is None:
            return None
        self._log, self._adjustments = restored.log, list(restored.adjustments)
        return self._state.step
