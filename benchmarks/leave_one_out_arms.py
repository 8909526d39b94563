"""The priors of `benchmarks.leave_one_out`: how many steps they can afford, how they learn, how they are judged."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.domains.written import WrittenDomain
from search_spaces.registry import SPACES
from workers.bayes.distributions import MetaPrior
from workers.bayes.randomness import slot_generator
from workers.contracts.meta_config import MetaConfig
from workers.contracts.priors import PriorCard
from workers.meta.finish import finish
from workers.meta.learning.data import LocalDataset, LocalMetaData, load_meta_data
from workers.meta.learning.evaluation import CURVE_STEPS, judge
from workers.meta.learning.loop import meta_train, step_gradient
from workers.meta.learning.slot import SlotWork
from workers.meta.learning.state import MetaState, StepLog
from workers.priors.model import body_shapes, fresh_prior, full_macro
from workers.priors.registry import CARD, TENSORS
from workers.priors.tensors import load_prior
from workers.tasks.distribution import ClassImages, TaskDistribution

# Steps whose CPU seconds are averaged, for each part of a run and each resolution.
NUM_PROBES: Final = 3
CPU_SECONDS: Final = "cpu_s.json"


def load_domains(domains: Sequence[WrittenDomain], side: int) -> LocalMetaData:
    """Return what a prior learns from: the meta-train classes, of each domain as often as of the others."""
    return load_meta_data(
        [
            LocalDataset(
                path=domain.path, split=replace(domain.split, meta_validation=()), weight=1.0, terms=domain.card.terms
            )
            for domain in domains
        ],
        side,
    )


def load_unseen(domain: WrittenDomain, side: int) -> ClassImages:
    """Return the meta-test classes of a domain, which no prior learned from."""
    chosen = replace(domain.split, meta_train=domain.split.meta_test, meta_validation=(), meta_test=())
    return load_meta_data([LocalDataset(path=domain.path, split=chosen)], side).meta_train


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


def affordable_steps(config: MetaConfig, data: LocalMetaData, budget_cpu_s: float) -> int:
    """Return how many steps a prior can take in so many CPU seconds of this machine; the parts keep their shares."""
    starts = (0, config.warmup_steps, config.joint_steps)
    ends = (config.warmup_steps, config.joint_steps, config.num_steps)
    chances = [weight / sum(config.resolution_weights) for weight in config.resolution_weights]
    mean_s = sum(
        (end - start) / config.num_steps * chance * _cpu_seconds_of_a_step(config, data, start, side)
        for start, end in zip(starts, ends, strict=True)
        if end > start
        for side, chance in zip(config.resolutions, chances, strict=True)
    )
    return max(1, round(budget_cpu_s / mean_s))


def _cpu_seconds_of_a_step(config: MetaConfig, data: LocalMetaData, step: int, side: int) -> float:
    work = SlotWork.build(config, TaskDistribution(data.meta_train, {side: 1.0}, data.dataset_weights))
    state = MetaState(config, data.meta_train.class_names)

    def take() -> float:
        started_s = time.process_time()
        state.step = step
        state.apply(step_gradient(work, state))
        return time.process_time() - started_s

    take()  # it warms up
    return statistics.fmean(take() for _ in range(NUM_PROBES))


def without_dataset(data: LocalMetaData, number: int) -> LocalMetaData:
    """Return what a prior learns from, but for one dataset."""
    classes = data.meta_train
    kept = [name for name, own in zip(classes.class_names, classes.dataset_ids, strict=True) if own != number]
    weights = data.dataset_weights
    return replace(
        data,
        meta_train=classes.subset(kept),
        learned_from=data.learned_from[:number] + data.learned_from[number + 1 :],
        dataset_weights=None if weights is None else weights[:number] + weights[number + 1 :],
    )


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
    finish(state, folder, prior_id=folder.name, command=command, data=data.learned_from)


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
    """Return the card of a prior that was learned."""
    return PriorCard.from_stored((folder / CARD).read_bytes(), str(folder / CARD))


def learned_prior(config: MetaConfig, folder: Path) -> MetaPrior:
    """Return a prior that was learned."""
    macro = full_macro(config.macro, num_classes=2, image_size=max(config.resolutions))
    return load_prior(folder / TENSORS, SPACES[config.search_space], body_shapes(config.search_space, macro))


def no_prior(config: MetaConfig, choices_of: MetaPrior) -> MetaPrior:
    """Return the weights that every prior began from, under the choices of one that learned.

    Without choices there is no network to judge; so this prior is better off than none.
    """
    macro = full_macro(config.macro, num_classes=2, image_size=max(config.resolutions))
    generator = slot_generator(config.seed, 0, 0, "weights")
    fresh = fresh_prior(config.search_space, macro, generator, weight_scale=config.weight_scale)
    return MetaPrior(choices_of.arch_logits, fresh.loc, fresh.log_scale)


def scores(
    config: MetaConfig, held_out: Callable[[], TaskDistribution], prior: MetaPrior, path: Path, num_tasks: int
) -> list[list[float]]:
    """Return the accuracy on each of some tasks, in the order of CURVE_STEPS; those that a file has count as they are.

    Args:
        config: The priors learned with.
        held_out: Returns where the tasks come from; task i is the same for every prior. Not called for none.
        prior: To judge.
        path: Of the file, rewritten after each task.
        num_tasks: Wanted.
    """
    found: list[list[float]] = json.loads(path.read_text()) if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in range(len(found), num_tasks):
        distribution = held_out()
        curve = judge(SlotWork.build(config, distribution), distribution, prior, number)
        found.append([curve[steps] for steps in CURVE_STEPS])
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(found))
        partial.replace(path)
    return found[:num_tasks]
