"""All trials of a run in this process, side by side, each written down when done; goes on where it stopped."""

import hashlib
import math
import os
from collections.abc import Callable
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Final

from search_spaces.architecture import Architecture
from workers.contracts.errors import CheckpointMismatchError
from workers.contracts.loss_model import LossModel, TrialFindings
from workers.meta.trials.findings import find
from workers.meta.trials.plan import Place, architectures, first_half, missing, second_half, taught
from workers.meta.trials.trial import Trial, Workshop, draw_task, run_trial
from workers.tasks.distribution import RawTask
from workers.training.abreast import as_many_as_fit
from workers.training.budget import Budget
from workers.training.recipe import RECIPE

TRIALS: Final = "trials.jsonl"
RUN: Final = "trials.sha256"
"""Hash of the configuration and the weights that the trials are of, and of how networks are drawn and trained."""
# Counts the ways in which architectures of trials with fresh weights have been drawn: no run mixes them.
FRESH_PLAN: Final = "2"


def run_trials(
    shop: Workshop, out: Path, *, at_once: int = 1, on_trial: Callable[[Trial], None] = lambda _: None
) -> TrialFindings:
    """Make the trials that `trials.jsonl` in a folder does not hold yet; return what all of them teach.

    Broken off by an error or a signal, it makes no further step.

    Args:
        shop: Of the run.
        out: The folder.
        at_once: Side by side, each on one thread of torch: what a trial finds does not depend on it.
        on_trial: Told each trial, those of the file first.

    Raises:
        CheckpointMismatchError: Its trials are of another configuration or of other weights.
    """
    _keep_run(shop, out)
    done = read_trials(out / TRIALS)
    for trial in done.values():
        on_trial(trial)
    # Their end breaks off what is under way.
    seconds = Budget(math.inf)
    with (out / TRIALS).open("a", encoding="utf-8") as file:
        for tasks in (first_half(shop.trials), second_half(shop.trials)):
            wanted = missing(shop.trials, tasks, done)
            known = taught(shop.config, shop.trials, done) if wanted and tasks.start else None
            make = _maker(shop, known, at_once, keep_on=lambda: seconds.remaining_s > 0)
            with closing(as_many_as_fit(make, wanted, seconds, at_once=at_once, least_share=0.0)) as made:
                for place, trial in made:
                    file.write(trial_line(trial))
                    file.flush()
                    done[place] = trial
                    on_trial(trial)
    return find(list(done.values()), shop.config)


def _maker(
    shop: Workshop, known: LossModel | None, at_once: int, keep_on: Callable[[], bool]
) -> Callable[[Place], Trial]:
    """Return what makes the trial of a place; the tasks of those under way stay in memory."""

    one_at_a_time = Lock()

    @lru_cache(maxsize=at_once)
    def drawn(task: int) -> tuple[RawTask, list[Architecture]]:
        raw = draw_task(shop, task)
        return raw, architectures(shop, raw, task, known)

    def make(place: Place) -> Trial:
        task, number = place
        with one_at_a_time:
            raw, archs = drawn(task)
        return run_trial(shop, raw, task, number, archs[number], keep_on=keep_on)

    return make


def _keep_run(shop: Workshop, out: Path) -> None:
    """Note what trials were made with, and refuse to add others to them."""
    digest = hashlib.sha256(RECIPE.encode() + shop.config.model_dump_json().encode())
    if shop.trials.weights == "fresh":
        digest.update(FRESH_PLAN.encode())
    for name, value in sorted(shop.prior.to_arrays().items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    path, own = out / RUN, digest.hexdigest()
    if (out / TRIALS).exists() and (path.read_text() if path.exists() else "") != own:
        raise CheckpointMismatchError(
            f"the trials in {out / TRIALS} are of another configuration or of other weights",
            todo="Remove that file to make them anew, or choose another output folder.",
        )
    path.write_text(own)


def trial_line(trial: Trial) -> str:
    """Return a trial as it stands in `trials.jsonl`."""
    return trial.model_dump_json() + "\n"


def read_trials(path: Path) -> dict[Place, Trial]:
    """Return the trials of a file by task and number; a last line that was cut short is left out, and cut off."""
    if not path.exists():
        return {}
    whole = path.read_bytes()
    kept = whole[: whole.rfind(b"\n") + 1]
    if len(kept) < len(whole):
        os.truncate(path, len(kept))
    trials = (Trial.model_validate_json(line) for line in kept.splitlines())
    return {(trial.task, trial.number): trial for trial in trials}
