"""How well a prior ranks architectures that it never tried, on classes that it never met, against a ground truth.

Ground truth: random architectures, the same for all tasks, none of which is in the records of the prior's trials
(`trials.jsonl`, where that lies beside it), each trained for a moment on tasks of each domain's
meta-validation classes, as the prior's own trials were. They are ranked by what can be known before that: parameters,
MACs, the loss with inherited weights (one-shot), the prior's option logits, what its trials foretell for the dataset
(`chooses`), and what they foretell from the one-shot loss as well (`ranks`). For each: Kendall's tau, how many of the
architectures that it puts into the top 5 % belong there, and how much accuracy its first choice gives away; means over
tasks, bootstrapped over them. A prior without trials has no `chooses` and no `ranks`; what gives all the same score on
a task does not rank, and is left out. No NAS table is read.

Resumes where it was stopped; after a change of the code that trains, give another `--work`.

usage: make bench-ranking, or
python -m benchmarks.priors.ranking --prior FOLDER [--architectures N] [--tasks N]
"""

import argparse
import hashlib
import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Final

import torch
from scipy import stats

from benchmarks.domains.written import WrittenDomain, learnable
from benchmarks.machine import RESULTS, ROOT, describe, end_with, say
from benchmarks.priors.learning import learned_card, learned_prior
from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidOptionError
from search_spaces.registry import SPACES
from search_spaces.spec import Macro, SearchSpace
from workers.bayes.distributions import MetaPrior
from workers.bench.bootstrap import bootstrap
from workers.contracts.loss_model import LossModel, TrialConfig
from workers.contracts.meta_config import MetaConfig
from workers.contracts.priors import PriorCard
from workers.meta.learning.data import LocalDataset, load_meta_data
from workers.meta.trials.campaign import TRIALS, read_trials
from workers.meta.trials.trial import Trial, Workshop, draw_task, run_trial
from workers.priors.loss_model import draw_valid, predict
from workers.priors.model import full_macro, possible_options

TOP_SHARE: Final = 0.05
# Below so many architectures that a prior never tried, tau and the top 5 % say nothing.
LEAST_ARCHITECTURES: Final = 20
# Their generator is not that of any trial of a prior.
SEED: Final = 20_000
DRAWN_PER_PLACE: Final = 4

Scores = Sequence[float]
"""One an architecture; less is better."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the trials that are missing, write the results, and end with one line of JSON."""
    return end_with(partial(run, parse(arguments)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, required=True, help="folder of card.json and prior.safetensors")
    parser.add_argument("--domains", type=Path, default=ROOT / "build" / "domains", help="what `make domains` wrote")
    parser.add_argument("--domain", action="append", default=[], metavar="NAME", help="of these only; repeatable")
    parser.add_argument("--architectures", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=1, help="of each domain")
    parser.add_argument("--num-steps", type=int, help="of the ground truth's training; default: as the prior's trials")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench-ranking", help="for what it resumes")
    parser.add_argument("--out", type=Path, help="file of results")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, object]:
    """Return the results, which are in the file then.

    Raises:
        InvalidOptionError: There is no prior in the folder, or there are no domains, or no task tells architectures
            apart.
    """
    torch.set_num_threads(options.threads)
    about = describe()
    card, prior = learned_card(options.prior), learned_prior(options.prior)
    domains = learnable(options.domains, options.domain)
    if not domains or options.architectures < 2 or options.tasks < 1:
        todo = "Run `make domains`; ask for two architectures and one task at least."
        raise InvalidOptionError(f"nothing to rank on in {options.domains}", got=len(domains), todo=todo)
    config = config_of(card, options.num_steps)
    trials = config.trials or TrialConfig()
    space = SPACES[card.search_space]
    archs = untried(space, prior, options.prior, options.architectures)
    work = options.work / f"{card.id}-{card.sha256[:12]}"
    found: dict[str, list[dict[str, dict[str, float]]]] = {}
    for domain in domains:
        shop = workshop(config, trials, domain, prior)
        for task in range(SEED, SEED + options.tasks):
            tried = ground_truth(shop, task, archs, work / f"{domain.card.name}-{truth_key(domain, config)}.jsonl")
            say(f"{domain.card.name}, task {task - SEED}: {len(tried)} architectures")
            if judged := judge_all(tried, card, prior):
                found.setdefault(domain.card.name, []).append(judged)
            else:
                say("their losses are all the same: left out")
    if not found:
        raise InvalidOptionError(
            "no task tells architectures apart", todo="Ask for more --architectures or --num-steps."
        )
    results = {
        "benchmark": "ranking",
        "prior": card.id,
        "prior_sha256": card.sha256,
        "architectures": len(archs),
        "tasks": {name: len(tasks) for name, tasks in found.items()},
        "trial": trials.model_dump(),
        "mean": means([one for tasks in found.values() for one in tasks]),
        **about,
    }
    by_domain = {name: means(tasks) for name, tasks in found.items()}
    out = options.out or RESULTS / f"ranking_{card.id}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**results, "by_domain": by_domain}, indent=1, allow_nan=False) + "\n")
    return results


def untried(space: SearchSpace, prior: MetaPrior, folder: Path, number: int) -> list[Architecture]:
    """Return up to so many architectures of possible options, whose networks differ, that the prior's trials left out.

    Args:
        space: Of the prior.
        prior: It says which options are possible.
        folder: Of the prior; the records of its trials lie in it, if there are any.
        number: How many; at least two.

    Raises:
        InvalidOptionError: There are too few for a ranking.
    """
    tried = {space.signature(space.parse(trial.architecture)) for trial in read_trials(folder / TRIALS).values()}
    possible = possible_options(prior.arch_logits)
    found: dict[Hashable, Architecture] = {}
    for arch in draw_valid(space, DRAWN_PER_PLACE * number, torch.Generator().manual_seed(SEED), possible):
        if space.signature(arch) not in tried:
            found.setdefault(space.signature(arch), arch)
    if len(found) < min(number, LEAST_ARCHITECTURES):
        raise InvalidOptionError(
            f"too few architectures that the prior in {folder} leaves open and never tried",
            got=len(found),
            expected=f"at least {min(number, LEAST_ARCHITECTURES)}",
            todo="Rank by a prior that rules little out, such as that of `make prior-nas_bench_201-deep`.",
        )
    return list(found.values())[:number]


def truth_key(domain: WrittenDomain, config: MetaConfig) -> str:
    """Return a name for all that decides a ground truth, but the architectures and this project's code."""
    told = json.dumps([domain.card.sha256, domain.split.meta_validation, config.model_dump(mode="json")])
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def config_of(card: PriorCard, num_steps: int | None) -> MetaConfig:
    """Return the configuration that a prior was learned with, with the trials of the ground truth."""
    config = MetaConfig.model_validate(card.config)
    trials = config.trials or TrialConfig()
    changes: dict[str, object] = {"num_steps_shares": (1.0,)} | ({} if num_steps is None else {"num_steps": num_steps})
    return config.model_copy(update={"trials": trials.model_copy(update=changes)})


def workshop(config: MetaConfig, trials: TrialConfig, domain: WrittenDomain, prior: MetaPrior) -> Workshop:
    """Return what the trials on a domain's meta-validation classes share."""
    unseen = replace(domain.split, meta_train=domain.split.meta_validation, meta_validation=(), meta_test=())
    data = load_meta_data([LocalDataset(path=domain.path, split=unseen)], max(config.resolutions))
    ways = min(config.min_ways, len(unseen.meta_train))
    # All images: what is compared is architectures, not sizes of datasets.
    config = config.model_copy(update={"num_examples": None, "min_ways": ways, "max_ways": max(ways, config.max_ways)})
    return Workshop.build(config, trials, data, prior)


def ground_truth(shop: Workshop, task: int, archs: Sequence[Architecture], path: Path) -> list[Trial]:
    """Return the trials of all architectures on a task; makes those that the file does not hold yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done = read_trials(path)
    raw, space = draw_task(shop, task), SPACES[shop.config.search_space]
    with path.open("a", encoding="utf-8") as file:
        for number, arch in enumerate(archs):
            known = done.get((task, number))
            if known is None or known.architecture != space.format(arch):
                done[task, number] = run_trial(shop, raw, task, number, arch)
                file.write(done[task, number].model_dump_json() + "\n")
                file.flush()
    return [done[task, number] for number in range(len(archs))]


def judge_all(tried: Sequence[Trial], card: PriorCard, prior: MetaPrior) -> dict[str, dict[str, float]]:
    """Return tau, precision and regret of every way that ranks, on one task; none where the losses are all the same."""
    space = SPACES[card.search_space]
    archs = [space.parse(trial.architecture) for trial in tried]
    macro = full_macro(card.macro, num_classes=2, image_size=max(card.resolutions))
    losses = [math.inf if trial.loss is None else 1 - trial.accuracy for trial in tried]
    if not tells_apart(losses):
        return {}
    ways = rankings(tried, archs, card, prior, macro)
    return {name: judge(scores, losses) for name, scores in ways.items() if tells_apart(scores)}


def tells_apart(scores: Scores) -> bool:
    """Return whether not all scores are the same."""
    return len(set(scores)) > 1


def rankings(
    tried: Sequence[Trial], archs: Sequence[Architecture], card: PriorCard, prior: MetaPrior, macro: Macro
) -> dict[str, Scores]:
    """Return the scores of each way of ranking; less is better."""
    space = SPACES[card.search_space]
    costs = [space.cost(arch, macro) for arch in archs]
    log_p_EO = torch.log_softmax(prior.arch_logits, dim=-1)
    found: dict[str, Scores] = {
        "params": [-cost.params for cost in costs],
        "macs": [-cost.macs for cost in costs],
        "option_logits": [-float(sum(log_p_EO[e, o] for e, o in enumerate(arch.choices))) for arch in archs],
    }
    one_shot = [math.inf if trial.one_shot is None else trial.one_shot for trial in tried]
    knows_one_shot = all(map(math.isfinite, one_shot))
    if knows_one_shot:
        found["one_shot"] = one_shot
    if card.trials is None:
        return found

    def foretold(model: LossModel, losses: Scores | None) -> Scores:
        scores: Scores = predict(model, space, macro, archs, tried[0].description, losses).tolist()
        return scores

    found["chooses"] = foretold(card.trials.chooses, None)
    if card.trials.ranks is not None and knows_one_shot:
        found["ranks"] = foretold(card.trials.ranks, one_shot)
    return found


def judge(scores: Scores, losses: Sequence[float]) -> dict[str, float]:
    """Return how well scores rank by the losses after training.

    Args:
        scores: Less is better; of equal ones the first counts as better. Not all the same.
        losses: Of the same architectures, not all the same; infinite where training diverged, which ranks last. To
            choose such a one gives away as much as to choose the worst of the others.
    """
    number = max(1, round(TOP_SHARE * len(losses)))
    order = sorted(range(len(scores)), key=scores.__getitem__)
    best = sorted(range(len(losses)), key=losses.__getitem__)
    worst = max(loss for loss in losses if math.isfinite(loss))
    return {
        "tau": float(stats.kendalltau(scores, losses).statistic),
        "precision_top_5_percent": len(set(order[:number]) & set(best[:number])) / number,
        "regret": min(losses[order[0]], worst) - losses[best[0]],
    }


def means(tasks: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, object]]:
    """Return the means over tasks by way of ranking and measure, and those of the difference to counting parameters.

    Of the ways that rank on every task; where architectures have equally many parameters, counting them is by chance.
    """
    ways = [name for name in tasks[0] if all(name in task for task in tasks)]
    return {
        way: {
            **{measure: round(fmean(task[way][measure] for task in tasks), 4) for measure in tasks[0][way]},
            "tau_above_params": bootstrap([task[way]["tau"] - counting_tau(task) for task in tasks]),
        }
        for way in ways
    }


def counting_tau(task: Mapping[str, Mapping[str, float]]) -> float:
    """Return the tau of counting parameters on a task."""
    return task["params"]["tau"] if "params" in task else 0.0


if __name__ == "__main__":
    raise SystemExit(main())
