"""What helps a prior to learn: variants of one configuration, equal CPU seconds each, judged on the same tasks.

A variant changes some fields of the base, learns from all domains of `make domains` without their meta-validation
classes, for as many steps as its CPU seconds afford it, and is judged on tasks of those classes: accuracy, negative
log-likelihood and expected calibration error of the query after 0, 4 and 16 inner steps, at the prior's mode and at one
cell that is the same for all: there, only weights differ. Variants that warm up as the base does share its warm-up.
Tasks are the same for all, so differences from the base are paired; intervals are bootstrapped over tasks. They do not
cover what another seed of the learning would give: the variant `seed` shows how much that is.

`meta_training.json`, beside this file, names variants that share a warm-up, `meta_training_from_start.json` those that
change it too; `experiments.md` says what they taught. Resumes where it was stopped, and writes the results anew after
each variant. What was learned is found again by its configuration: after a change of the code that learns, give another
`--work`.

usage: make bench-meta-training, or
python -m benchmarks.priors.meta_training [--spec FILE] [--budget-cpu-s S] [--tasks N]
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Final

import torch

from benchmarks.domains.written import WrittenDomain, learnable
from benchmarks.machine import RESULTS, ROOT, describe, end_with, put, say
from benchmarks.priors.learning import (
    affordable_steps,
    affordable_steps_after,
    after_warm_up,
    checkpoint_step,
    cpu_seconds,
    go_on_from,
    learn,
    learn_warm_up,
    learned_card,
    learned_prior,
    lengthened,
    load_domains,
)
from benchmarks.priors.meta_training_judge import Judge, TaskScores
from benchmarks.priors.meta_training_spec import Variant, read_spec
from search_spaces.errors import InvalidOptionError
from workers.bench.bootstrap import bootstrap
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.data import LocalMetaData
from workers.meta.learning.evaluation import CURVE_STEPS, QueryScores
from workers.meta.learning.state import CHECKPOINT

SPEC: Final = Path(__file__).with_suffix(".json")
SCORES: Final = ("accuracy", "nll", "calibration_error")
PLACES: Final = ("at_mode", "at_cell")
Scores = Mapping[int, QueryScores]
"""By number of inner steps, of one task."""


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
    parser.add_argument("--spec", type=Path, default=SPEC, help="base and variants")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="these variants; repeatable")
    parser.add_argument("--budget-cpu-s", type=float, default=40.0, help="CPU seconds of learning, for each variant")
    parser.add_argument("--warm-up-cpu-s", type=float, default=0.0, help="CPU seconds before, of a warm-up for all")
    parser.add_argument("--tasks", type=int, default=6, help="of each domain")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench-meta-training", help="for what it resumes")
    parser.add_argument("--out", type=Path, help="file of results; else among the results, by the name of the spec")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, object]:
    """Return the results, which are in the file then.

    Raises:
        InvalidOptionError: There is nothing to learn from, or an option cannot be used.
    """
    torch.set_num_threads(options.threads)
    if options.tasks < 1 or options.budget_cpu_s <= 0 or options.warm_up_cpu_s < 0:
        expected = "at least one task, more than no time"
        raise InvalidOptionError("--tasks, --budget-cpu-s, --warm-up-cpu-s", expected=expected)
    budget = Budget(warm_up_cpu_s=options.warm_up_cpu_s, cpu_s=options.budget_cpu_s)
    spec = read_spec(options.spec)
    variants = spec.chosen(options.only)
    domains = learnable(options.domains)
    if not domains:
        raise InvalidOptionError(f"no domain to learn from in {options.domains}", todo="Run `make domains`.")
    load = cache(partial(load_domains, domains, max(spec.base.resolutions)))
    work = options.work / key_of(asdict(budget), domains)
    judge = Judge(domains, options.tasks, spec.base, spec.cell)
    machine = describe()
    judged: dict[str, list[TaskScores]] = {}
    told: dict[str, dict[str, object]] = {}
    results: dict[str, object] = {}
    for variant in variants:
        config, folder = learned(spec.base, variant, load, work, budget, str(machine["command"]))
        prior = learned_prior(folder)
        judging = {**variant.judge.model_dump(mode="json", exclude_defaults=True), "cell": spec.cell.choices}
        judged[variant.name] = judge.scores(variant.judge, prior, folder / f"judged-{key_of(judging)}.json")
        told[variant.name] = {
            "learn": variant.changes,
            "judge": variant.judge_changes,
            "shares_warm_up": bool(budget.warm_up_cpu_s) and variant.shares_warm_up,
            "num_steps": config.num_steps,
            "cpu_s": cpu_seconds(folder),
            "mode": learned_card(folder).mode,
            "entropy": round(learned_card(folder).curves["entropy"][-1][1], 3),
            **summary(judged[variant.name], judged[spec.reference]),
        }
        say(f"{variant.name}: {json.dumps(told[variant.name])}")
        results = {
            "benchmark": "meta_training",
            "spec": options.spec.name,
            "complete": len(told) == len(variants),
            **asdict(budget),
            "num_tasks": options.tasks,
            "base": spec.base.model_dump(mode="json"),
            "variants": told,
            "gpu": "not run",
        }
        tasks = {name: [task.model_dump(mode="json") for task in found] for name, found in judged.items()}
        put(options.out or RESULTS / f"{options.spec.stem}.json", {**results, **machine, "tasks": tasks})
    return results


@dataclass(frozen=True, kw_only=True)
class Budget:
    """CPU seconds of learning: `warm_up_cpu_s` of the base's warm-up, `cpu_s` of each variant after it.

    A variant whose changes concern the warm-up too learns from the start, for the sum of both.
    """

    warm_up_cpu_s: float
    cpu_s: float


def learned(
    base: MetaConfig, variant: Variant, load: Callable[[], LocalMetaData], work: Path, budget: Budget, command: str
) -> tuple[MetaConfig, Path]:
    """Return the configuration and the folder of what a variant learned, now or before; equal ones share a folder."""
    folder = work / key_of(variant.learn.model_dump(mode="json", exclude_defaults=True))
    shared = None
    if budget.warm_up_cpu_s and variant.shares_warm_up:
        shared = warmed_up(base, load, work / "warm_up", budget.warm_up_cpu_s)

    def measured() -> int:
        if shared is None:
            return affordable_steps(variant.learn, load(), budget.warm_up_cpu_s + budget.cpu_s)
        return affordable_steps_after(shared, variant.learn, load(), budget.cpu_s, folder)

    steps = planned(folder, measured, variant.name)
    if shared is None:
        config = lengthened(variant.learn, steps)
    else:
        config = after_warm_up(variant.learn, checkpoint_step(shared), steps)
        if not (folder / CHECKPOINT).exists():
            go_on_from(shared, config, folder / CHECKPOINT)
    say(f"{variant.name}: {steps} steps in {folder}")
    learn(config, load, folder, command)
    return config, folder


def warmed_up(base: MetaConfig, load: Callable[[], LocalMetaData], folder: Path, budget_cpu_s: float) -> Path:
    """Return the checkpoint at the end of the base's warm-up, learned now or before."""

    def measured() -> int:
        only = MetaConfig.model_validate(
            {**base.model_dump(), "joint_steps": base.num_steps, "warmup_steps": base.num_steps}
        )
        return affordable_steps(only, load(), budget_cpu_s)

    steps = planned(folder, measured, "warm-up")
    share = base.warmup_steps / base.num_steps
    return learn_warm_up(lengthened(base, round(steps / share)), load, folder)


def planned(folder: Path, measure: Callable[[], int], name: str) -> int:
    """Return the number of steps that was found to be affordable when the run began."""
    plan = folder / "plan.json"
    if not plan.exists():
        say(f"{name}: measuring what a step costs")
        folder.mkdir(parents=True, exist_ok=True)
        plan.write_text(json.dumps({"num_steps": measure()}))
    return int(json.loads(plan.read_text())["num_steps"])


def summary(tasks: Sequence[TaskScores], reference: Sequence[TaskScores]) -> dict[str, object]:
    """Return for each place (at the mode, at the cell) what `compare` finds there."""
    return {
        place: compare([_at(place, task) for task in tasks], [_at(place, task) for task in reference])
        | {"accuracy_by_domain": by_domain(tasks, place)}
        for place in PLACES
    }


def compare(own: Sequence[Scores], base: Sequence[Scores]) -> dict[str, object]:
    """Return the scores' means by number of inner steps, and the paired differences from others; with intervals."""

    def column(of: Sequence[Scores], name: str, steps: int) -> list[float]:
        return [float(getattr(task[steps], name)) for task in of]

    def differences(name: str, steps: int) -> list[float]:
        return [one - other for one, other in zip(column(own, name, steps), column(base, name, steps), strict=True)]

    return {
        **{name: {steps: bootstrap(column(own, name, steps)) for steps in CURVE_STEPS} for name in SCORES},
        "minus_base": {name: {steps: bootstrap(differences(name, steps)) for steps in CURVE_STEPS} for name in SCORES},
    }


def by_domain(tasks: Sequence[TaskScores], place: str) -> dict[str, dict[int, float]]:
    """Return mean accuracy by domain and number of inner steps."""
    return {
        domain: {
            steps: round(fmean(_at(place, task)[steps].accuracy for task in tasks if task.domain == domain), 4)
            for steps in CURVE_STEPS
        }
        for domain in sorted({task.domain for task in tasks})
    }


def _at(place: str, task: TaskScores) -> Scores:
    return task.at_mode if place == "at_mode" else task.at_cell


def key_of(given: Mapping[str, object], domains: Sequence[WrittenDomain] = ()) -> str:
    """Return a name for what decides numbers: what differs in any of it never meets."""
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode())
    for domain in domains:
        split = domain.split
        parts = [domain.card.name, domain.card.sha256, split.meta_train, split.meta_validation]
        digest.update(json.dumps(parts).encode())
    return digest.hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
