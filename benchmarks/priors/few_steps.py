"""The first steps on a new dataset: accuracy after so many, from a prior's weights and from fresh ones.

On each dataset of the suites, none of which a prior has learned from, tasks of all its classes are drawn; a head is
fitted, and inner steps of plain SGD on batches of 128 images follow, at the prior's mode. Both begin with the same
images and the same architecture. Each has the rate of the weights, of the same few, that was best for it after the last
step on another split of the dataset than those that are judged; the head's rate is that of the prior's configuration.
Tasks of a dataset are splits of the same images, so intervals over them do not cover other images. Batch norm takes the
statistics of the whole query: these numbers compare priors, they are no promise of an exported network.

usage: make bench-few-steps, or python -m benchmarks.priors.few_steps [--prior FOLDER] [--only DATASET ...]
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import torch

from benchmarks.machine import RESULTS, ROOT, describe, end_with, put, say
from benchmarks.priors.learning import learned_card, learned_prior
from benchmarks.priors.leave_one_out_arms import no_prior
from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidOptionError, lookup
from search_spaces.registry import SPACES
from workers.bayes.distributions import MetaPrior
from workers.bench.bootstrap import bootstrap
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.data import LocalDataset, load_meta_data
from workers.meta.learning.evaluation import QueryScores, query_scores
from workers.meta.learning.slot import SlotWork
from workers.priors.registry import bundled_default, bundled_folder
from workers.tasks.distribution import ClassImages, TaskDistribution

STEPS: Final = (0, 1, 2, 5, 10, 20, 50)
RATES: Final = (0.01, 0.03, 0.1, 0.3, 1.0)
# Number of the split that chooses a rate; those that are judged begin at 0.
TUNING: Final = 1_000_000
SIDE: Final = 24
SIZES: Final = (4096, 1000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge, write the results, and end with one line of JSON.

    Args:
        arguments: Of the command line; None: those of this process.
    """
    return end_with(partial(run, parse(arguments)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    bundled = bundled_folder() / str(bundled_default("nas_bench_201"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, default=bundled, help="folder of a prior")
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "suite", help="of `benchmarks.suites.data`")
    parser.add_argument("--only", nargs="+", metavar="DATASET", help="of those there; all if absent")
    parser.add_argument("--tasks", type=int, default=5, help="of each dataset")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS), metavar="N", help="where to judge")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="file of results")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, object]:
    """Return the results, which are in the file then; it is written anew after each dataset.

    Raises:
        InvalidOptionError: There is no prior or no dataset, or an option cannot be used.
    """
    torch.set_num_threads(options.threads)
    steps = sorted(set(options.steps))
    if options.tasks < 1 or steps[0] < 0:
        expected = "at least one task, steps of 0 or more"
        raise InvalidOptionError("--tasks, --steps", got=(options.tasks, steps), expected=expected)
    found = {path.stem: path for path in sorted(options.data.glob("*.zip"))}
    if not found:
        todo = "`python -m benchmarks.suites.data build/suite` writes them."
        raise InvalidOptionError("no datasets there", got=str(options.data), todo=todo)
    chosen = {name: lookup(found, name, kind="dataset") for name in options.only or found}
    card, machine = learned_card(options.prior), describe()
    config = MetaConfig.model_validate({**card.config, "trials": None})
    prior = learned_prior(options.prior)
    arms = {"prior": prior, "fresh": no_prior(config, prior)}
    arch = SPACES[config.search_space].parse(card.mode)
    curves: dict[str, object] = {}
    results: dict[str, object] = {}
    for name, path in chosen.items():
        classes = load_meta_data([LocalDataset(path=path)], SIDE).meta_train
        curves[name] = {arm: _curve(config, classes, start, arch, steps, options.tasks) for arm, start in arms.items()}
        say(f"{name}: {curves[name]}")
        results = {
            "benchmark": "few_steps",
            "prior": card.id,
            "architecture": card.mode,
            "complete": len(curves) == len(found),
            "num_tasks": options.tasks,
            "rates": RATES,
            "side": SIDE,
            "curves": curves,
            "gpu": "not run",
        }
        put(options.out or RESULTS / f"few_steps_{card.id}.json", {**results, **machine})
    return results


def _curve(
    config: MetaConfig,
    classes: ClassImages,
    prior: MetaPrior,
    arch: Architecture,
    steps: Sequence[int],
    num_tasks: int,
) -> dict[str, object]:
    """Return mean accuracy by number of steps with its interval over tasks, and the rate that was chosen."""
    held_out = TaskDistribution(classes, {SIDE: 1.0})
    ways = {"min_ways": held_out.num_classes, "max_ways": held_out.num_classes}

    def scores(rate: float, number: int, at_steps: Sequence[int] = steps) -> Mapping[int, QueryScores]:
        own = MetaConfig.model_validate({**config.model_dump(), **ways, "inner_lr": rate})
        work = SlotWork.build(own, held_out)
        return query_scores(work, held_out, prior, number, architecture=arch, at_steps=at_steps, sizes=SIZES)

    last = steps[-1]
    tried = {rate: scores(rate, TUNING, [last])[last].accuracy for rate in RATES}
    rate = max(tried, key=tried.__getitem__)
    judged = [scores(rate, number) for number in range(num_tasks)]
    accuracy = {at: bootstrap([scores[at].accuracy for scores in judged]) for at in steps}
    return {"rate": rate, "accuracy": accuracy}


if __name__ == "__main__":
    sys.exit(main())
