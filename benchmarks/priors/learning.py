"""How the priors of benchmarks learn: from which domains, for how many steps, with which clock."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from benchmarks.domains.written import WrittenDomain
from search_spaces.errors import InvalidOptionError
from search_spaces.registry import SPACES
from workers.bayes.distributions import MetaPrior
from workers.contracts.meta_config import MetaConfig
from workers.contracts.priors import PriorCard
from workers.meta.finish import Origin, finish
from workers.meta.learning.data import LocalDataset, LocalMetaData, load_meta_data
from workers.meta.learning.loop import meta_train, step_gradient
from workers.meta.learning.slot import SlotWork
from workers.meta.learning.state import CHECKPOINT, MetaState, StepLog
from workers.priors.model import body_shapes, full_macro
from workers.priors.registry import CARD, TENSORS, parse_card
from workers.priors.tensors import load_prior
from workers.tasks.distribution import TaskDistribution

# Of the run that tells what a step costs: its steps, and the share of the budget that it takes at most.
NUM_PILOT_STEPS: Final = 100
PILOT_SHARE: Final = 0.25
CPU_SECONDS: Final = "cpu_s.json"


def load_domains(
    domains: Sequence[WrittenDomain], side: int, weights: Mapping[str, float] | None = None
) -> LocalMetaData:
    """Return what a prior learns from: the meta-train classes.

    Args:
        domains: Theirs.
        side: That images are kept at, in pixels.
        weights: How often tasks come from a domain, by its name; 1 for one that is not named.
    """
    return load_meta_data(
        [
            LocalDataset(
                path=domain.path,
                split=replace(domain.split, meta_validation=()),
                weight=(weights or {}).get(domain.card.name, 1.0),
                terms=domain.card.terms,
            )
            for domain in domains
        ],
        side,
    )


def lengthened(config: MetaConfig, num_steps: int) -> MetaConfig:
    """Return the configuration of a run of so many steps, whose parts have the same shares."""

    def share(steps: int) -> int:
        return round(steps * num_steps / config.num_steps)

    lengths = {
        "num_steps": num_steps,
        "warmup_steps": share(config.warmup_steps),
        "joint_steps": share(config.joint_steps),
        "lr_rise_steps": share(config.lr_rise_steps),
        "evaluate_every": num_steps,
    }
    return MetaConfig.model_validate({**config.model_dump(), **lengths})


def after_warm_up(config: MetaConfig, warmup_steps: int, num_steps: int) -> MetaConfig:
    """Return the configuration of a run of a warm-up and so many steps more, whose other parts have the same shares."""
    later = config.num_steps - config.warmup_steps
    joint = round((config.joint_steps - config.warmup_steps) * num_steps / later) if later else 0
    lengths = {
        "num_steps": warmup_steps + num_steps,
        "warmup_steps": warmup_steps,
        "joint_steps": warmup_steps + joint,
        "lr_rise_steps": round(config.lr_rise_steps * warmup_steps / max(1, config.warmup_steps)),
        "evaluate_every": warmup_steps + num_steps,
    }
    return MetaConfig.model_validate({**config.model_dump(), **lengths})


def affordable_steps(config: MetaConfig, data: LocalMetaData, budget_cpu_s: float) -> int:
    """Return how many steps a prior can take in so many CPU seconds of this machine; the parts keep their shares.

    A run of NUM_PILOT_STEPS steps tells, all parts in their shares: what a step costs depends on the paths that it
    draws, hence on what the choices have learned. Where a quarter of the budget is gone before, its first steps tell.
    """
    short = lengthened(config, NUM_PILOT_STEPS)
    return _affordable(short, MetaState(short, data.meta_train.class_names), data, budget_cpu_s)


def affordable_steps_after(
    checkpoint: Path, config: MetaConfig, data: LocalMetaData, budget_cpu_s: float, folder: Path
) -> int:
    """Return how many steps more a prior can take after its warm-up: see `affordable_steps`.

    Args:
        checkpoint: At the end of the warm-up.
        config: Of the run, by its shares.
        data: To learn from.
        budget_cpu_s: CPU seconds.
        folder: For a copy of the checkpoint.
    """
    short = after_warm_up(config, checkpoint_step(checkpoint), NUM_PILOT_STEPS)
    state = MetaState(short, data.meta_train.class_names)
    go_on_from(checkpoint, short, folder / "pilot.pt")
    state.load(folder / "pilot.pt")
    (folder / "pilot.pt").unlink()
    return _affordable(short, state, data, budget_cpu_s)


def _affordable(short: MetaConfig, state: MetaState, data: LocalMetaData, budget_cpu_s: float) -> int:
    resolutions = dict(zip(short.resolutions, short.resolution_weights, strict=True))
    work = SlotWork.build(short, TaskDistribution(data.meta_train, resolutions, data.dataset_weights))
    state.apply(step_gradient(work, state))  # it warms the machine up
    first, started_s, spent_s = state.step, time.process_time(), 0.0
    while state.step < short.num_steps and spent_s < PILOT_SHARE * budget_cpu_s:
        state.apply(step_gradient(work, state))
        spent_s = time.process_time() - started_s
    return max(1, round(budget_cpu_s * (state.step - first) / spent_s))


def checkpoint_step(path: Path) -> int:
    """Return how many steps a checkpoint has behind it."""
    return int(torch.load(path, weights_only=True)["step"])


def go_on_from(checkpoint: Path, config: MetaConfig, path: Path) -> None:
    """Write a checkpoint from which a run of another configuration goes on, as if it had had the same warm-up.

    Scales are those of that configuration: a warm-up does not move them.
    """
    saved = torch.load(checkpoint, weights_only=True)
    scale = math.log(config.weight_scale)
    log_scale = {name: torch.full_like(value, scale) for name, value in saved["log_scale"].items()}
    partial = path.with_suffix(".partial")
    torch.save({**saved, "config": config.model_dump_json(), "log_scale": log_scale}, partial)
    partial.replace(path)


def learn_warm_up(config: MetaConfig, load: Callable[[], LocalMetaData], folder: Path) -> Path:
    """Learn the warm-up of a run into a folder, unless it is there; return the checkpoint at its end."""
    path = folder / CHECKPOINT
    if not path.exists() or checkpoint_step(path) < config.warmup_steps:
        data = load()
        meta_train(
            config,
            data.meta_train,
            None,
            folder,
            dataset_weights=data.dataset_weights,
            num_steps=config.warmup_steps,
        )
    return path


def learn(config: MetaConfig, load: Callable[[], LocalMetaData], folder: Path, command: str) -> None:
    """Learn a prior into a folder, unless it is there; goes on from its checkpoint.

    Args:
        config: Of the run.
        load: Returns what to learn from; not called for a prior that is there.
        folder: Of the prior, whose name it gets.
        command: For the card.
    """
    if (folder / CARD).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    data = load()
    clock = _CpuClock(folder / CPU_SECONDS, config)
    state = meta_train(
        config, data.meta_train, None, folder, dataset_weights=data.dataset_weights, on_step=clock.on_step
    )
    clock.save()
    finish(state, folder, prior_id=folder.name, origin=Origin(command=command, data=data.learned_from))


class _CpuClock:
    """Adds up CPU seconds of learning over interruptions, at each checkpoint: steps that are taken again count once."""

    def __init__(self, path: Path, config: MetaConfig) -> None:
        self._path, self._every = path, config.checkpoint_every
        self._before_s: float = json.loads(path.read_text()) if path.exists() else 0.0
        self._started_s = time.process_time()

    def on_step(self, log: StepLog) -> None:
        if (log.step + 1) % self._every == 0:
            self.save()

    def save(self) -> None:
        self._path.write_text(json.dumps(round(self._before_s + time.process_time() - self._started_s, 2)))


def cpu_seconds(folder: Path) -> float:
    """Return what learning a prior took."""
    return float(json.loads((folder / CPU_SECONDS).read_text()))


def learned_card(folder: Path) -> PriorCard:
    """Return the card of a prior that was learned.

    Raises:
        InvalidOptionError: No prior lies there.
        InvalidPriorError: Its card cannot be read.
    """
    if not (folder / CARD).is_file():
        raise InvalidOptionError("no prior there", got=str(folder), todo="Learn one by `archprior meta-train`.")
    return parse_card((folder / CARD).read_bytes(), str(folder), any_id=True)


def learned_prior(folder: Path) -> MetaPrior:
    """Return a prior that was learned."""
    card = learned_card(folder)
    macro = full_macro(card.macro, num_classes=2, image_size=max(card.resolutions))
    return load_prior(folder / TENSORS, SPACES[card.search_space], body_shapes(card.search_space, macro))
