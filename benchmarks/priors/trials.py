"""What each part of what trials teach is worth: a prior's own trials, each task foretold from all others.

For each task, a loss model is learned from the trials of the other tasks and chooses among the architectures that were
tried on this one: as it is, and without one of its parts. What is chosen has been trained, so its accuracy and loss on
held-out images are known. Means over tasks, and paired differences to the whole model, bootstrapped over tasks. Nothing
is trained here.

| without | means |
|---|---|
| options | what each option adds |
| traits | what depth, parameters and MACs add, on the mean dataset and on this one |
| look | how the look of the data changes that |
| length | how the length of the training changes that |
| everything | the prior's mode, on every task; not for trials with fresh weights, which try none |

usage: make bench-trials, or python -m benchmarks.priors.trials --prior FOLDER
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Final

from scipy import stats

from benchmarks.machine import RESULTS, describe, end_with, put
from benchmarks.priors.learning import learned_card
from search_spaces.errors import InvalidOptionError
from search_spaces.registry import SPACES
from workers.bench.bootstrap import bootstrap
from workers.contracts.loss_model import LossModel
from workers.contracts.meta_config import MetaConfig
from workers.contracts.priors import PriorCard
from workers.meta.trials.campaign import TRIALS, read_trials
from workers.meta.trials.findings import find
from workers.meta.trials.trial import Trial
from workers.priors.loss_model import predict
from workers.priors.model import full_macro
from workers.priors.registry import CARD

LENGTH: Final = "training_steps"
WHOLE: Final = "whole"
MODE: Final = "without everything"
LEAST_TASKS: Final = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge, write the results, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, required=True, help=f"folder with {CARD} and {TRIALS}")
    parser.add_argument("--out", type=Path, help="file of results")
    return end_with(partial(run, parser.parse_args(arguments)))


def run(options: argparse.Namespace) -> dict[str, object]:
    """Return the results, which are in the file then.

    Raises:
        InvalidOptionError: There is no prior with trials of several tasks in the folder.
    """
    about = describe()
    card, config, tasks = read(options.prior)
    judged = [judge(task, [other for other in tasks if other is not task], config) for task in tasks]
    found = {
        "benchmark": "trials",
        "prior": card.id,
        "tasks": len(tasks),
        "trials": sum(map(len, tasks)),
        "weights": config.trials.weights if config.trials else None,
        "ways": {way: means(judged, way) for way in judged[0]},
        **about,
    }
    put(options.out or RESULTS / f"trials_{card.id}.json", found)
    return found


def read(folder: Path) -> tuple[PriorCard, MetaConfig, list[list[Trial]]]:
    """Return a prior's card, its configuration, and by task the trials with a finite loss: two or more, the first too.

    Raises:
        InvalidOptionError: It has no trials, or of too few tasks.
    """
    card = learned_card(folder)
    ended = [trial for trial in read_trials(folder / TRIALS).values() if trial.loss is not None]
    ended.sort(key=lambda trial: (trial.task, trial.number))
    tasks = [list(group) for _, group in groupby(ended, key=lambda trial: trial.task)]
    tasks = [group for group in tasks if len(group) > 1 and group[0].number == 0]
    if card.trials is None or len(tasks) < LEAST_TASKS:
        raise InvalidOptionError(
            f"too few trials in {folder / TRIALS}",
            got=f"{len(tasks)} tasks",
            expected=f"at least {LEAST_TASKS}",
            todo="Name the folder that `archprior meta-train` wrote, of a configuration with `trials`.",
        )
    return card, MetaConfig.model_validate(card.config), tasks


def judge(task: Sequence[Trial], others: Sequence[Sequence[Trial]], config: MetaConfig) -> dict[str, dict[str, float]]:
    """Return, for each way, what it chooses on a task reaches and how well it ranks, learned from the other tasks."""
    model = find([trial for group in others for trial in group], config).chooses
    found = {WHOLE: _judged(task, model, config)}
    found |= {name: _judged(task, lesser(model), config) for name, lesser in WITHOUT.items()}
    if config.trials is not None and config.trials.weights == "inherited":
        found[MODE] = {**_reached(task[0]), "tau": 0.0}
    return found


def _judged(task: Sequence[Trial], model: LossModel, config: MetaConfig) -> dict[str, float]:
    space = SPACES[config.search_space]
    macro = full_macro(config.macro, num_classes=2, image_size=max(config.resolutions))
    archs = [space.parse(trial.architecture) for trial in task]
    predicted = predict(model, space, macro, archs, task[0].description).tolist()
    tau = float(stats.kendalltau(predicted, [1 - trial.accuracy for trial in task]).statistic)
    chosen = task[predicted.index(min(predicted))]
    return {**_reached(chosen), "tau": tau if math.isfinite(tau) else 0.0}


def _reached(trial: Trial) -> dict[str, float]:
    return {"accuracy": trial.accuracy, "nll": trial.loss if trial.loss is not None else math.nan}


def _without_options(model: LossModel) -> LossModel:
    return model.model_copy(update={"options": tuple((0.0,) * len(row) for row in model.options)})


def _without_traits(model: LossModel) -> LossModel:
    return model.model_copy(update={"traits": dict.fromkeys(model.traits, 0.0), "context": {}})


def _without_look(model: LossModel) -> LossModel:
    kept = {name: effects for name, effects in model.context.items() if name == LENGTH}
    return model.model_copy(update={"context": kept})


def _without_length(model: LossModel) -> LossModel:
    kept = {name: effects for name, effects in model.context.items() if name != LENGTH}
    return model.model_copy(update={"context": kept})


WITHOUT: Final[Mapping[str, Callable[[LossModel], LossModel]]] = {
    "without options": _without_options,
    "without traits": _without_traits,
    "without look": _without_look,
    "without length": _without_length,
}


def means(judged: Sequence[Mapping[str, Mapping[str, float]]], way: str) -> dict[str, object]:
    """Return a way's means over tasks, and those of its differences to the whole model."""
    measures = judged[0][way]
    return {
        **{measure: round(fmean(task[way][measure] for task in judged), 4) for measure in measures},
        "minus_whole": {
            measure: bootstrap([task[way][measure] - task[WHOLE][measure] for task in judged]) for measure in measures
        },
    }


if __name__ == "__main__":
    raise SystemExit(main())
