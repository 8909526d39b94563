"""Meta-training in one process: slot after slot, step after step, with checkpoints and an exact resume."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from workers.bayes.aggregate import MeanGradient, aggregate, is_finite
from workers.bayes.distributions import MetaPrior
from workers.contracts.errors import CheckpointMismatchError, DivergedError
from workers.contracts.meta_config import MetaConfig
from workers.contracts.priors import LearnedFrom
from workers.meta.learning.evaluation import adaptation_curve
from workers.meta.learning.slot import SlotWork, draw, gradient
from workers.meta.learning.state import CHECKPOINT, MetaState, StepLog
from workers.tasks.class_split import check_ways
from workers.tasks.distribution import ClassImages, TaskDistribution

LOG = "log.jsonl"
PARENT = "parent.txt"


@dataclass(frozen=True, kw_only=True)
class Parent:
    """A prior that a run begins from.

    Attributes:
        id: Its name.
        sha256: Of its tensors.
        prior: The tensors.
        data: What it learned from.
    """

    id: str
    sha256: str
    prior: MetaPrior
    data: tuple[LearnedFrom, ...] = ()


def meta_train(
    config: MetaConfig,
    classes: ClassImages,
    held_out: ClassImages | None,
    out: Path,
    *,
    dataset_weights: Sequence[float] | None = None,
    parent: Parent | None = None,
    num_steps: int | None = None,
    on_step: Callable[[StepLog], None] = lambda _: None,
) -> MetaState:
    """Learn a prior; continue from the checkpoint in `out` if there is one.

    Args:
        config: Of the run.
        classes: Meta-train classes.
        held_out: Meta-validation classes for the adaptation curves, or None for no curves.
        out: Folder of the checkpoint and of `log.jsonl`, one line of JSON a step.
        dataset_weights: How often tasks come from each dataset of `classes`; None: by its number of classes.
        parent: To begin from, of the same space and skeleton; None: fresh weights and uniform choices.
        num_steps: Stop after so many steps of the run in all; the schedule stays that of `config.num_steps`.
        on_step: Told what each step did.

    Raises:
        CheckpointMismatchError: The checkpoint in `out` belongs to another configuration or another parent.
        InvalidDatasetError: Too few classes or images.
        InvalidOptionError: Weights that are not positive, or not one for each dataset.
        DivergedError: No gradient of a step was finite.
    """
    resolutions = dict(zip(config.resolutions, config.resolution_weights, strict=True))
    work = SlotWork.build(config, TaskDistribution(classes, resolutions, dataset_weights))
    held_out_tasks = None if held_out is None else TaskDistribution(held_out, resolutions)
    if config.joint_steps < config.num_steps or config.trials is not None:
        # Trials come after all steps: their tasks are refused now.
        check_ways(work.distribution.num_classes_by_dataset, config.min_ways)
    state = MetaState(config, classes.class_names, None if parent is None else parent.prior)
    out.mkdir(parents=True, exist_ok=True)
    _keep_parent(out, parent)
    if (out / CHECKPOINT).exists():
        state.load(out / CHECKPOINT)
    last = config.num_steps if num_steps is None else min(num_steps, config.num_steps)
    with _log_up_to(out / LOG, state.step) as log_file:
        while state.step < last:
            log = state.apply(step_gradient(work, state))
            entry = {"step": log.step, "loss": log.loss, "norms": dict(log.norms), "entropy": state.entropies()}
            if held_out_tasks and (state.step % config.evaluate_every == 0 or state.step == config.num_steps):
                entry["held_out"] = adaptation_curve(work, held_out_tasks, state.prior)
            log_file.write(json.dumps(entry) + "\n")
            on_step(log)
            if state.step % config.checkpoint_every == 0 or state.step == last:
                log_file.flush()
                state.save(out / CHECKPOINT)
    return state


def _keep_parent(out: Path, parent: Parent | None) -> None:
    """Note what a run began from, and refuse to go on from another: its checkpoint does not tell."""
    path, own = out / PARENT, "" if parent is None else f"{parent.id} {parent.sha256}\n"
    noted = path.read_text() if path.exists() else ""
    if (out / CHECKPOINT).exists() and noted != own:
        raise CheckpointMismatchError(
            f"checkpoint {out / CHECKPOINT} belongs to a run that began from another prior",
            got=own.strip() or "none",
            expected=noted.strip() or "none",
            todo="Resume with the parent that it began from, or choose another output folder.",
        )
    path.write_text(own)


def step_gradient(work: SlotWork, state: MetaState) -> MeanGradient:
    """Return the aggregated gradient of the state's next step, its slots computed here one after another."""
    config, step = work.config, state.step
    prior = state.prior_with_heads
    gradients = [gradient(work, prior, draw(work, step=step, slot=slot)) for slot in range(config.num_slots)]
    finite = [found for found in gradients if is_finite(found)]
    if not finite:
        raise DivergedError(
            f"no slot of step {step} has a finite gradient",
            todo="Lower lr or inner_lr and begin again in another folder; the last checkpoint is whole.",
        )
    return aggregate(finite, config.weighting)


def _log_up_to(path: Path, step: int) -> TextIO:
    """Open the log for appending, without the lines of steps that the checkpoint does not know."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if json.loads(line)["step"] < step]
    path.write_text("".join(line + "\n" for line in kept))
    return path.open("a")
