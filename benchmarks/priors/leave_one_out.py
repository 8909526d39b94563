"""What a prior is worth in a domain that it never saw: each domain is left out once.

For each domain a prior learns from all others; one more learns from all. All take the same number of steps, which
`--budget-cpu-s` affords on this machine, from the same fresh weights, and draw tasks from each of their domains alike.
Then, on tasks of the meta-test classes of the domain left out: accuracy after 0, 4 and 16 inner steps of the prior that
saw all domains, of the one that did not see this one, and of none (fresh weights under the first one's choices). The
tasks are the same for each, so differences are paired; intervals are bootstrapped over tasks. They do not cover what
another seed of the learning would give.

Resumes where it was stopped, and writes the results anew after each domain.

usage: make bench-leave-one-out, or
python -m benchmarks.priors.leave_one_out [--budget-cpu-s S] [--tasks N] [--without MARK]
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Final

import torch

from benchmarks.domains.written import WrittenDomain, learnable
from benchmarks.machine import RESULTS, ROOT, describe, end_with, put, say
from benchmarks.priors.learning import (
    affordable_steps,
    cpu_seconds,
    learn,
    learned_card,
    learned_prior,
    lengthened,
    load_domains,
)
from benchmarks.priors.leave_one_out_arms import load_unseen, no_prior, scores, without_dataset
from search_spaces.errors import InvalidOptionError
from service.cli.meta_runs.options import read_config
from workers.bayes.distributions import MetaPrior
from workers.bench.bootstrap import bootstrap
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.data import LocalMetaData
from workers.meta.learning.evaluation import CURVE_STEPS
from workers.tasks.distribution import TaskDistribution

CONFIG: Final = Path(__file__).with_suffix(".json")
# What decides the numbers of a prior, beside configuration and data.
ROOMS: Final = ("search_spaces", "workers/bayes", "workers/meta/learning", "workers/priors", "workers/tasks")
ALL, WITHOUT, NONE = "all", "without", "none"
Scores = Mapping[str, Sequence[Sequence[float]]]
"""Accuracy by prior, task and number of inner steps."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Learn and judge what is missing, write the results, and end with one line of JSON.

    Args:
        arguments: Of the command line; None: those of this process.
    """
    return end_with(partial(run, parse(arguments)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", type=Path, default=ROOT / "build" / "domains", help="what `make domains` wrote")
    parser.add_argument("--domain", action="append", default=[], metavar="NAME", help="of these only; repeatable")
    parser.add_argument("--without", metavar="MARK", help="leave out classes of a mark, such as cifar10")
    parser.add_argument("--config", type=Path, default=CONFIG, help="of each prior; its num_steps gives shares only")
    parser.add_argument("--budget-cpu-s", type=float, default=150.0, help="CPU seconds of learning, for each prior")
    parser.add_argument("--num-steps", type=int, help="steps of each prior, instead of a budget")
    parser.add_argument("--tasks", type=int, default=12, help="of each domain")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench-leave-one-out", help="for what it resumes")
    parser.add_argument("--out", type=Path, help="file of results")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, object]:
    """Return the results, which are in the file then.

    Raises:
        InvalidOptionError: There are not two domains, or an option cannot be used.
    """
    torch.set_num_threads(options.threads)
    domains = learnable(options.domains, options.domain, options.without)
    if len(domains) < 2:
        todo = "Run `make domains`."
        raise InvalidOptionError(
            f"domains to learn from in {options.domains}", got=len(domains), expected="two or more", todo=todo
        )
    if options.tasks < 1 or options.budget_cpu_s <= 0 or (options.num_steps or 1) < 1:
        expected = "at least one task, and at least one step or more than no time"
        raise InvalidOptionError("--tasks, --budget-cpu-s, --num-steps", expected=expected)
    given = read_config(options.config)
    length = {"num_steps": options.num_steps} if options.num_steps else {"budget_cpu_s": options.budget_cpu_s}
    work = options.work / key_of(given, length, domains)
    load = cache(partial(load_domains, domains, max(given.resolutions)))
    config = lengthened(given, options.num_steps or planned_steps(work, given, load, options.budget_cpu_s))
    machine = describe()
    about = {**length, **machine, "config": config.model_dump(mode="json"), "without_mark": options.without}
    arms: dict[str, Callable[[], LocalMetaData]] = {ALL: load} | {
        f"{WITHOUT}-{domain.card.name}": partial(all_but, load, number) for number, domain in enumerate(domains)
    }
    for name, load_its in arms.items():
        say(f"prior {name}: {config.num_steps} steps")
        learn(config, load_its, work / name, str(machine["command"]))
    everything = learned_prior(work / ALL)
    found: dict[str, object] = {}
    results: dict[str, object] = {}
    for domain in domains:
        name = domain.card.name
        priors = {ALL: everything, WITHOUT: learned_prior(work / f"{WITHOUT}-{name}")}
        priors[NONE] = no_prior(config, everything)
        by_prior = judged(config, domain, priors, work / "scores" / name, options.tasks)
        found[name] = {"num_classes": len(domain.split.meta_test), **compare(by_prior)}
        say(f"{name}: {json.dumps(found[name])}")
        results = {
            "benchmark": "leave_one_out",
            "complete": len(found) == len(domains),
            "num_steps": config.num_steps,
            "num_tasks": options.tasks,
            "domains": found,
            "priors": {arm: told(work / arm) for arm in arms},
            "gpu": "not run",
        }
        raw = {"scores": {other: read_scores(work / "scores" / other) for other in found}}
        put(options.out or results_path(options.without), {**results, **about, **raw})
    return results


def key_of(config: MetaConfig, length: Mapping[str, float], domains: Sequence[WrittenDomain]) -> str:
    """Return a name for all that decides the priors' numbers: what differs in any of it never meets."""
    digest = hashlib.sha256(json.dumps([config.model_dump(mode="json"), length]).encode())
    for domain in domains:
        split = domain.split
        parts = [domain.card.name, domain.card.sha256, split.meta_train, split.meta_test]
        digest.update(json.dumps(parts).encode())
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def all_but(load: Callable[[], LocalMetaData], number: int) -> LocalMetaData:
    """Return what a prior learns from without a domain, cut out of what is in memory already."""
    return without_dataset(load(), number)


def planned_steps(work: Path, config: MetaConfig, load: Callable[[], LocalMetaData], budget_cpu_s: float) -> int:
    """Return the number of steps that was found to be affordable when the run began."""
    path = work / "plan.json"
    if not path.exists():
        say("measuring what a step costs")
        steps = affordable_steps(config, load(), budget_cpu_s)
        work.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"num_steps": steps}))
    return int(json.loads(path.read_text())["num_steps"])


def judged(
    config: MetaConfig, domain: WrittenDomain, priors: Mapping[str, MetaPrior], folder: Path, num_tasks: int
) -> Scores:
    """Return the scores of priors on the same tasks of a domain's meta-test classes."""
    resolutions = dict(zip(config.resolutions, config.resolution_weights, strict=True))

    @cache
    def held_out() -> TaskDistribution:
        return TaskDistribution(load_unseen(domain, max(config.resolutions)), resolutions)

    return {name: scores(config, held_out, prior, folder / f"{name}.json", num_tasks) for name, prior in priors.items()}


def compare(by_prior: Scores) -> dict[str, object]:
    """Return accuracy by prior and the paired differences, by number of inner steps, with bootstrap intervals."""
    pairs = {f"{ALL}_minus_{WITHOUT}": (ALL, WITHOUT), f"{WITHOUT}_minus_{NONE}": (WITHOUT, NONE)}

    def column(name: str, position: int) -> list[float]:
        return [task[position] for task in by_prior[name]]

    return {
        "accuracy": {
            name: {steps: bootstrap(column(name, position)) for position, steps in enumerate(CURVE_STEPS)}
            for name in by_prior
        },
        **{
            label: {
                steps: bootstrap([a - b for a, b in zip(column(one, at), column(other, at), strict=True)])
                for at, steps in enumerate(CURVE_STEPS)
            }
            for label, (one, other) in pairs.items()
        },
    }


def told(folder: Path) -> dict[str, object]:
    """Return what a prior took, chose and learned from."""
    card = learned_card(folder)
    learned = {item.name: len(item.classes) for item in card.data}
    return {"cpu_s": cpu_seconds(folder), "mode": card.mode, "classes_by_dataset": learned}


def read_scores(folder: Path) -> dict[str, object]:
    """Return the scores on a domain's tasks by prior."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def results_path(without: str | None) -> Path:
    """Return where results lie if no file is named."""
    return RESULTS / f"leave_one_out{f'_without_{without}' if without else ''}.json"


if __name__ == "__main__":
    sys.exit(main())
