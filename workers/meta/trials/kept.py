"""Trials of a run that are done, in the store: a lost job costs none of them."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Mapping

from pydantic import ValidationError

from workers.contracts.base import StoredContract
from workers.contracts.errors import ObjectMissingError
from workers.meta.flat import Flat
from workers.meta.trials.plan import Place
from workers.meta.trials.trial import Trial
from workers.store.protocol import Store
from workers.training.recipe import RECIPE

logger = logging.getLogger("archprior.meta")


class TaskTrials(StoredContract):
    """The trials of one task so far (`<task>.json`).

    Attributes:
        prior_sha256: Of the weights that they began with, in hexadecimal.
    """

    prior_sha256: str
    trials: tuple[Trial, ...]


class KeptTrials:
    """The trials of one run: an object for each task, written as a whole with each of its trials.

    An object is there as a whole or not at all, so no manifest is needed.

    Args:
        store: Where they lie.
        prefix: Under which, without a final slash.
        prior: That they begin from. Trials of another are passed over: a run whose last checkpoint is damaged may come
            to other weights than before.
    """

    def __init__(self, store: Store, prefix: str, prior: Flat) -> None:
        self._store, self._prefix = store, prefix
        self._prior_sha256 = hashlib.sha256(
            RECIPE.encode() + prior.layout.encode() + prior.values.tobytes()
        ).hexdigest()
        self._by_task: dict[int, list[Trial]] = defaultdict(list)

    def read(self) -> Mapping[Place, Trial]:
        """Return those that are there, by task and number; what is damaged is passed over, with a warning.

        Raises:
            StoreError: The store does not hand them out.
            NewerFormatError: A newer ArchPrior wrote them.
        """
        self._by_task.clear()
        for item in self._store.list(f"{self._prefix}/"):
            try:
                found = TaskTrials.from_stored(self._store.get_bytes(item.key), item.key)
            except (ObjectMissingError, ValidationError) as error:
                logger.warning("the trials in %s are passed over: %s", item.key, error)
                continue
            if found.prior_sha256 == self._prior_sha256:
                for trial in found.trials:
                    self._by_task[trial.task].append(trial)
        return {(trial.task, trial.number): trial for trials in self._by_task.values() for trial in trials}

    def add(self, trial: Trial) -> None:
        """Keep a trial.

        Raises:
            StoreError: The store does not take it; those before are untouched.
        """
        trials = self._by_task[trial.task]
        trials.append(trial)
        kept = TaskTrials(prior_sha256=self._prior_sha256, trials=tuple(trials))
        key = f"{self._prefix}/{trial.task:08d}.json"
        self._store.put_bytes(key, kept.model_dump_json().encode(), media_type="application/json")
