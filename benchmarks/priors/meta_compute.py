"""What more meta-training is worth: priors of one recipe that learned for a few steps, for more, and to its end.

The end is a prior that is there, the recipe that of its run. The shorter ones learn from the same data, all parts of
the recipe shortened alike, so that each ends with its rate at zero as the whole run does; they make no trials. All are
judged on the same tasks of meta-validation classes, at the architecture that is the whole prior's mode: accuracy,
negative log-likelihood and expected calibration error after 0, 4 and 16 inner steps. What a prior has more than the one
before it is paired by task, with bootstrap intervals over tasks; they do not cover another seed of the learning.

Resumes where it was stopped, and writes the results anew after each prior. What was learned is found again by its
recipe: after a change of the code that learns, give another `--work`.

usage: make bench-meta-compute, or python -m benchmarks.priors.meta_compute [--prior FOLDER] [--parts N ...]
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

import torch

from benchmarks.domains.written import WrittenDomain, learnable
from benchmarks.machine import RESULTS, ROOT, describe, end_with, put, say
from benchmarks.priors.learning import cpu_seconds, learn, learned_card, learned_prior, lengthened, load_domains
from benchmarks.priors.meta_training import compare, key_of
from benchmarks.priors.meta_training_judge import Judge
from search_spaces.errors import InvalidOptionError
from search_spaces.registry import SPACES
from workers.contracts.meta_config import MetaConfig
from workers.contracts.priors import LearnedFrom, PriorCard
from workers.meta.learning.evaluation import QueryScores
from workers.priors.registry import bundled_default, bundled_folder

# How often tasks come from a domain; from the others once. As in the Makefile, where priors are made.
WEIGHTS: Final[Mapping[str, float]] = {"imagenet32": 2.0, "mnist": 0.5}


def main(arguments: Sequence[str] | None = None) -> int:
    """Learn and judge what is missing, write the results, and end with one line of JSON.

    Args:
        arguments: Of the command line; None: those of this process.
    """
    return end_with(partial(run, parse(arguments)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    whole = bundled_folder() / str(bundled_default("nas_bench_201"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, default=whole, help="folder of the prior that learned to the end")
    parser.add_argument("--parts", type=int, nargs="+", default=[32, 16, 8], metavar="N", help="an N-th of its steps")
    parser.add_argument("--domains", type=Path, default=ROOT / "build" / "domains", help="what `make domains` wrote")
    parser.add_argument("--without", default="cifar10", help="mark whose classes the prior did not meet")
    parser.add_argument("--tasks", type=int, default=6, help="of each domain")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench-meta-compute", help="for what it resumes")
    parser.add_argument("--out", type=Path, help="file of results")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, object]:
    """Return the results, which are in the file then.

    Raises:
        InvalidOptionError: There is no prior, it learned from other data, or an option cannot be used.
    """
    torch.set_num_threads(options.threads)
    parts = sorted(set(options.parts), reverse=True)
    if options.tasks < 1 or not parts or parts[-1] < 2:
        raise InvalidOptionError(
            "--tasks, --parts", got=options.parts, expected="at least one task, parts of 2 or more"
        )
    whole = learned_card(options.prior)
    recipe = recipe_of(whole)
    domains = learned_from(whole, learnable(options.domains, without=options.without or None))
    load = cache(partial(load_domains, domains, max(recipe.resolutions), WEIGHTS))
    same_data(whole.data, load().learned_from)
    told = {"recipe": recipe.model_dump(mode="json"), "weights": WEIGHTS, "judged at": whole.mode}
    work = options.work / key_of(told, domains)
    shorter = [
        Learning(config.num_steps, work / f"of-{part}", config)
        for part in parts
        for config in [lengthened(recipe, max(1, recipe.num_steps // part))]
    ]
    runs = [*shorter, Learning(whole.num_steps, options.prior)]
    cell = SPACES[recipe.search_space].parse(whole.mode)
    judge, machine = Judge(domains, options.tasks, recipe, cell), describe()
    curve: list[dict[str, object]] = []
    tasks: dict[int, object] = {}
    results: dict[str, object] = {}
    before: list[Mapping[int, QueryScores]] | None = None
    for one in runs:
        say(f"{one.num_steps} steps: {one.folder}")
        if one.config is not None:
            learn(one.config, load, one.folder, str(machine["command"]))
        card = learned_card(one.folder)
        judged = judge.scores(recipe, learned_prior(one.folder), work / f"judged-{card.sha256[:12]}.json")
        scores = [task.at_cell for task in judged]
        tasks[one.num_steps] = [task.model_dump(mode="json") for task in judged]
        of_part = compare(scores, before or scores)
        curve.append(
            {
                "num_steps": one.num_steps,
                "cpu_s": cpu_seconds(one.folder) if one.config else None,
                **{name: value for name, value in of_part.items() if name != "minus_base"},
                "minus_before": of_part["minus_base"] if before else None,
            }
        )
        before = scores
        say(f"{one.num_steps} steps: {of_part['accuracy']}")
        results = {
            "benchmark": "meta_compute",
            "prior": whole.id,
            "complete": len(curve) == len(runs),
            "num_tasks": options.tasks,
            "architecture": whole.mode,
            "curve": curve,
            "gpu": "not run",
        }
        out = options.out or RESULTS / f"meta_compute_{whole.id}.json"
        put(out, {**results, **machine, "recipe": recipe.model_dump(mode="json"), "tasks": tasks})
    return results


@dataclass(frozen=True)
class Learning:
    """A prior of the curve: all steps behind it, its folder, and how it is learned; None: it is there."""

    num_steps: int
    folder: Path
    config: MetaConfig | None = None


def recipe_of(whole: PriorCard) -> MetaConfig:
    """Return the configuration that shorter runs take.

    Raises:
        InvalidOptionError: The prior's run was another than its configuration says, or began at a parent's weights.
    """
    recipe = MetaConfig.model_validate(whole.config)
    as_told = recipe.mode == "synchronous" and whole.num_steps == recipe.num_steps and not whole.adjustments
    if whole.parent or not as_told:
        expected = "a synchronous run from fresh weights to its end, without adjustments"
        raise InvalidOptionError(f"the recipe of {whole.id} cannot be shortened", expected=expected)
    return recipe.model_copy(update={"trials": None})


def learned_from(whole: PriorCard, domains: Sequence[WrittenDomain]) -> list[WrittenDomain]:
    """Return the domains that a prior learned from, in its order: labels and draws depend on it."""
    order = [data.name for data in whole.data]
    return sorted((one for one in domains if one.path.name in order), key=lambda one: order.index(one.path.name))


def same_data(learned: Sequence[LearnedFrom], given: Sequence[LearnedFrom]) -> None:
    """Check that shorter runs learn from what the whole one learned from.

    Raises:
        InvalidOptionError: They would not.
    """
    there, here = ({(one.sha256, frozenset(one.classes)) for one in data} for data in (learned, given))
    if there != here:
        todo = "Name the domains, the mark and the prior that belong together; `make domains` writes the domains."
        raise InvalidOptionError("the prior learned from other data", got=[one.name for one in learned], todo=todo)


if __name__ == "__main__":
    sys.exit(main())
