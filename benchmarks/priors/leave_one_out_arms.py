"""The priors of `leave_one_out`: what they learn from and how they are judged."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.domains.written import WrittenDomain
from workers.bayes.distributions import MetaPrior
from workers.bayes.randomness import slot_generator
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.data import LocalDataset, LocalMetaData, load_meta_data
from workers.meta.learning.evaluation import CURVE_STEPS, judge
from workers.meta.learning.slot import SlotWork
from workers.priors.model import fresh_prior, full_macro
from workers.tasks.distribution import ClassImages, TaskDistribution


def load_unseen(domain: WrittenDomain, side: int) -> ClassImages:
    """Return the meta-test classes of a domain, which no prior learned from."""
    chosen = replace(domain.split, meta_train=domain.split.meta_test, meta_validation=(), meta_test=())
    return load_meta_data([LocalDataset(path=domain.path, split=chosen)], side).meta_train


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
