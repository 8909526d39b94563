"""What workers do beside slots: they judge priors on held-out tasks, and try architectures on tasks of the run."""

from collections.abc import Iterable

from workers.meta.board import Board, Errand, Judgement
from workers.meta.crew import Crew, Handle, Judged, Tried
from workers.meta.judging import Accuracy, Judging
from workers.meta.trying import Trying
from workers.meta.watch import Watch


class Errands:
    """Has errands done, and tells what comes of them.

    Args:
        board: That gives them out.
        crew: That does them.
        watch: Told of them.
    """

    def __init__(self, board: Board, crew: Crew, watch: Watch) -> None:
        self._board, self._crew, self._watch = board, crew, watch
        self._judging = Judging(board)
        self._trying: Trying | None = None

    def judge(self, subject: str, prior: Handle, num_tasks: int, *, version: int | None = None) -> None:
        """Have a prior judged; see `Judging.ask`."""
        self._judging.ask(subject, prior, num_tasks, version=version)

    def scores(self, subjects: Iterable[str]) -> dict[str, dict[int, Accuracy]]:
        """Return the results by task of those that all of their tasks have judged."""
        return self._judging.scores(subjects)

    def try_out(self, trying: Trying) -> None:
        """Have the trials made that the board will be asked for."""
        self._trying = trying

    def hand(self, worker: str, errand: Errand) -> None:
        """Have a worker do what the board gave it."""
        if isinstance(errand, Judgement):
            self._crew.judge(worker, errand, prior=self._judging.prior(errand))
        elif self._trying is not None:
            self._crew.try_out(worker, errand, prior=self._trying.prior, known=self._trying.known)

    def judged(self, event: Judged, now_s: float, *, host: str) -> None:
        """A worker has judged a prior, or its host has too little memory to."""
        judgement, accuracy = event.judgement, event.accuracy
        first = self._board.finished(event.worker, judgement, now_s)
        if accuracy is None:
            # Less memory than a held-out task takes may do for a slot: the run learns on without this point.
            if self._judging.give_up(judgement.subject):
                self._watch.event("warning", f"{host} has too little memory to judge {judgement.subject}")
        elif first and (verdict := self._judging.take(judgement, accuracy)) is not None:
            self._watch.judged(verdict.subject, verdict.version, verdict.mean)
            if verdict.version is not None:
                self._crew.note_judged(verdict.version, verdict.mean)

    def tried(self, event: Tried, now_s: float) -> bool:
        """A worker has made a trial; return whether its memory was enough: else another has to make it."""
        first = self._board.finished(event.worker, event.tryout, now_s)
        if event.trial is None:
            if first:
                self._board.ask([event.tryout])
            return False
        if first and self._trying is not None:
            self._watch.tried(self._trying.take(event.trial))
        return True
