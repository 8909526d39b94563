"""Which trials of a run are still to be made, and what came of them so far. Pure, but for what keeps them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from workers.contracts.loss_model import LossModel, TrialConfig, TrialFindings
from workers.contracts.meta_config import MetaConfig
from workers.meta.board import Tryout
from workers.meta.crew import Handle
from workers.meta.trials.findings import find
from workers.meta.trials.plan import Place, first_half, missing, second_half, taught
from workers.meta.trials.trial import Trial


@dataclass(frozen=True, kw_only=True)
class TriedTask:
    """A task all of whose trials are made.

    Attributes:
        task: Its number.
        mode: Accuracy on its held-out images, 0 to 1, of the prior's mode; None where trials begin with fresh weights.
        best: The same of the best of all.
    """

    task: int
    mode: float | None
    best: float


class Trying:
    """The trials of a run.

    Args:
        config: Of the run.
        trials: Of `config`.
        prior: After its weights have learned.
        done: Trials that earlier attempts made.
        keep: Told each that this attempt makes.
    """

    def __init__(
        self,
        config: MetaConfig,
        trials: TrialConfig,
        prior: Handle,
        done: Mapping[Place, Trial],
        keep: Callable[[Trial], None],
    ) -> None:
        self._config, self._trials, self._keep = config, trials, keep
        self._done = dict(done)
        self.prior = prior
        self.known: LossModel | None = None
        """What the first half has taught, for the second; None: that is still being made."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Those that are made, by task and number."""
        return tuple(self._done[place] for place in sorted(self._done))

    def rounds(self) -> Iterator[list[Tryout]]:
        """Yield what is missing of the first half, then, once all of that has been taken, of the second.

        Raises:
            InvalidDatasetError: The first half teaches nothing: no losses are finite.
        """
        yield self._missing(first_half(self._trials))
        self.known = taught(self._config, self._trials, self._done)
        yield self._missing(second_half(self._trials))

    def take(self, trial: Trial) -> TriedTask | None:
        """Take a trial; return its task if that was the last one of it."""
        self._keep(trial)
        self._done[trial.task, trial.number] = trial
        places = missing(self._trials, [trial.task], ())
        if any(place not in self._done for place in places):
            return None
        accuracies = [self._done[place].accuracy for place in places]
        mode = None if self._trials.weights == "fresh" else accuracies[0]
        return TriedTask(task=trial.task, mode=mode, best=max(accuracies))

    def findings(self) -> TrialFindings:
        """Return what all trials teach.

        Raises:
            InvalidDatasetError: No task has two trials with a finite loss.
        """
        return find(self.trials, self._config)

    def _missing(self, tasks: range) -> list[Tryout]:
        return [Tryout(*place) for place in missing(self._trials, tasks, self._done)]
