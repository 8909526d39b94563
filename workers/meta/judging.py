"""Which priors are being judged on held-out tasks, and what came of it so far. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from workers.meta.board import Board, Judgement
from workers.meta.crew import Handle

Accuracy = dict[int, float]
"""By number of inner steps."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A prior that all of its tasks have judged.

    Attributes:
        subject: Its name.
        version: Of the run that is learning; None: another prior.
        mean: Accuracy over the tasks.
    """

    subject: str
    version: int | None
    mean: Accuracy


class Judging:
    """Asks the board for judgements, and adds up what comes back.

    Args:
        board: That gives them out.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._priors: dict[str, Handle] = {}
        self._versions: dict[str, int] = {}
        self._num_tasks: dict[str, int] = {}
        self._scores: dict[str, dict[int, Accuracy]] = {}

    def ask(self, subject: str, prior: Handle, num_tasks: int, *, version: int | None = None) -> None:
        """Have a prior judged, unless it is being judged: taken again after a loss, a version is the same prior."""
        if subject in self._priors:
            return
        self._priors[subject], self._num_tasks[subject], self._scores[subject] = prior, num_tasks, {}
        if version is not None:
            self._versions[subject] = version
        self._board.ask(self._judgements(subject))

    def prior(self, judgement: Judgement) -> Handle:
        """Return the prior that a judgement is about."""
        return self._priors[judgement.subject]

    def take(self, judgement: Judgement, accuracy: Accuracy) -> Verdict | None:
        """Take a task's result; return the verdict if it was the last one."""
        subject = judgement.subject
        scores = self._scores[subject]
        scores[judgement.number] = accuracy
        if len(scores) < self._num_tasks[subject]:
            return None
        del self._priors[subject]
        mean = {steps: sum(scores[task][steps] for task in sorted(scores)) / len(scores) for steps in accuracy}
        return Verdict(subject=subject, version=self._versions.get(subject), mean=mean)

    def give_up(self, subject: str) -> bool:
        """Judge a prior no further; return whether it was being judged."""
        self._board.withdraw(self._judgements(subject))
        return self._priors.pop(subject, None) is not None

    def _judgements(self, subject: str) -> list[Judgement]:
        return [Judgement(subject, number) for number in range(self._num_tasks[subject])]

    def scores(self, subjects: Iterable[str]) -> dict[str, dict[int, Accuracy]]:
        """Return the results by task of those that all of their tasks have judged."""
        return {name: self._scores[name] for name in subjects if len(self._scores[name]) == self._num_tasks[name]}
