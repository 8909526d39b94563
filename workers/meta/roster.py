"""The workers of an attempt by name: since when, where, what for. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from workers.contracts.meta_runs import WorkerState, WorkerView
from workers.meta.board import Board
from workers.meta.gradient_worker import WorkerInfo

LONGEST_PAUSE_S = 60.0


@dataclass(kw_only=True)
class _Member:
    since_s: float
    info: WorkerInfo | None = None
    actor_id: str = ""
    leaving_since_s: float | None = None
    num_done: int = 0


class Roster:
    """Who has been started and is not gone. A name is used once.

    Attributes:
        num_failed_starts: Workers in a row that did not come up.
    """

    def __init__(self) -> None:
        self._members: dict[str, _Member] = {}
        self._num_names = 0
        self.num_failed_starts, self._start_again_s = 0, float("-inf")

    def add(self, now_s: float) -> str:
        """Return the name of a worker that is being started."""
        self._num_names += 1
        name = f"worker-{self._num_names}"
        self._members[name] = _Member(since_s=now_s)
        return name

    def knows(self, worker: str) -> bool:
        """Return whether a worker of that name is here."""
        return worker in self._members

    def joined(self, worker: str, info: WorkerInfo, actor_id: str) -> None:
        """A worker is up."""
        member = self._members[worker]
        member.info, member.actor_id = info, actor_id
        self.num_failed_starts, self._start_again_s = 0, float("-inf")

    def failed_start(self, now_s: float) -> None:
        """A worker did not come up: the next has to wait, longer after each that does not."""
        self.num_failed_starts += 1
        self._start_again_s = now_s + min(LONGEST_PAUSE_S, 2.0**self.num_failed_starts)

    def may_start(self, now_s: float) -> bool:
        """Return whether it is time to start another worker."""
        return now_s >= self._start_again_s

    def leaving(self, worker: str, now_s: float) -> None:
        """A worker is to go once it has finished what it holds."""
        self._members[worker].leaving_since_s = now_s

    def is_leaving(self, worker: str) -> bool:
        """Return whether a worker is to go."""
        member = self._members.get(worker)
        return member is not None and member.leaving_since_s is not None

    def done(self, worker: str) -> None:
        """A worker has computed a slot."""
        if worker in self._members:
            self._members[worker].num_done += 1

    def remove(self, worker: str) -> None:
        """A worker is gone."""
        self._members.pop(worker, None)

    def host(self, worker: str) -> str:
        """Return the name of the machine that a worker is on, as far as it is known."""
        member = self._members.get(worker)
        return "an unknown node" if member is None or member.info is None else member.info.host

    def staying(self) -> tuple[str, ...]:
        """Return those that are not to go."""
        return tuple(name for name, member in self._members.items() if member.leaving_since_s is None)

    def available(self, board: Board) -> tuple[str, ...]:
        """Return those that may be given work."""
        return tuple(name for name in self.staying() if name in board.workers and board.holds(name) is None)

    def states(self, board: Board) -> Sequence[tuple[str, WorkerState]]:
        """Return those that are not to go with what they do, oldest first."""
        return [(name, self._state(name, board)) for name in self.staying()]

    def overdue(self, now_s: float, *, start_s: float, drain_s: float) -> tuple[str, ...]:
        """Return those that have been starting, or leaving, for too long."""
        found = []
        for name, member in self._members.items():
            slow_start = member.info is None and now_s - member.since_s > start_s
            slow_end = member.leaving_since_s is not None and now_s - member.leaving_since_s > drain_s
            if slow_start or slow_end:
                found.append(name)
        return tuple(found)

    def views(self, board: Board) -> tuple[WorkerView, ...]:
        """Return the workers as people see them."""
        views = []
        for name, member in self._members.items():
            item, info = board.holds(name), member.info
            views.append(
                WorkerView(
                    id=name,
                    state=self._state(name, board),
                    node="" if info is None else info.host,
                    pid=0 if info is None else info.pid,
                    device="" if info is None else info.device,
                    actor_id=member.actor_id,
                    doing="" if item is None else str(item),
                    num_done=member.num_done,
                )
            )
        return tuple(views)

    def _state(self, worker: str, board: Board) -> WorkerState:
        if worker not in board.workers:
            return "starting"
        return "idle" if board.holds(worker) is None else "busy"
