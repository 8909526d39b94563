"""One attempt of a meta-run, from its workers' first breath to the last step.

It hands out what the board says, and tells the board what became of it. No tensors here: those go from the workers to
the parameter actor.
"""

import time
from collections.abc import Callable

from workers.contracts.errors import CancelledError
from workers.contracts.meta_runs import Adjustment, MetaControl
from workers.meta import ends
from workers.meta.board import Board, Slot
from workers.meta.crew import (
    Applied,
    Computed,
    Crew,
    Event,
    Failed,
    GradientLost,
    Handle,
    Joined,
    Judged,
    Lost,
    PriorLost,
    Saved,
    ServerLost,
    ServerReady,
    Tried,
)
from workers.meta.elastic import NO_ROOM, num_wanted, to_retire, waited_for
from workers.meta.errands import Errands
from workers.meta.parameters import SlotReport
from workers.meta.roster import Roster
from workers.meta.rules import Learned, Rules
from workers.meta.trying import Trying
from workers.meta.watch import Watch

WAIT_S = 0.5
LOOK_EVERY_S = 1.0


class Coordinator:
    """Steps an attempt.

    Args:
        rules: How it goes.
        crew: Those who compute.
        watch: Told everything that people want to see.
        control: Returns what the service wants now.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        rules: Rules,
        crew: Crew,
        watch: Watch,
        control: Callable[[], MetaControl],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules, self._crew, self._watch, self._control, self._clock = rules, crew, watch, control, clock
        self._board = Board(rules.config, rules.patience)
        self._roster = Roster()
        self._errands = Errands(self._board, crew, watch)
        self._class_names = rules.class_names
        self._prior: Handle = None
        self._can_judge, self._serving, self._learning = False, False, False
        self._divisor = 1
        self._num_pushed, self._num_excluded, self._num_servers_lost = 0, 0, 0
        self._saved_step, self._saving = 0, False
        self._began_s: float | None = None
        self._paused, self._paused_s = False, 0.0
        self._alone_since_s = clock()
        self._looked_s = float("-inf")

    def learn(self) -> Learned:
        """Take steps until all are taken, the budget is spent or a stop is asked for; then save, and return.

        Raises:
            CancelledError: A cancel was asked for.
            WorkersLostError: There are no workers, or one piece of work ends all that take it.
            OutOfMemoryError: Workers have too little memory even for smaller batches.
            ArchPriorError: What the workers or the parameter actor refuse, such as a store that is away for too long.
        """
        self._learning = True
        if self._class_names is not None:
            self._crew.start_server(self._class_names)
        while not (self._over() and self._saved):
            over = self._over()
            if over and not self._saving:
                self._save()
            # What is still computed when a run is over would take it a step further, again and again.
            self._learning = not over
            self.step(learn=not over)
        self._learning = False
        return Learned(version=self._board.version, complete=self._board.learned, prior=self._prior)

    def judge(self, priors: dict[str, Handle], num_tasks: int) -> dict[str, dict[int, dict[int, float]]]:
        """Return the accuracy of priors on the same held-out tasks: by prior, task, number of inner steps.

        Empty where a stop is asked for: who asks wants what there is, soon.

        Raises: As `learn`.
        """
        for name, prior in priors.items():
            self._errands.judge(name, prior, num_tasks)
        return self._errands.scores(priors) if self._do_errands() else {}

    def try_out(self, trying: Trying) -> bool:
        """Have all trials made that are missing; return whether they are: a stop ends that.

        Raises: As `learn`, and InvalidDatasetError where the first half of the trials teaches nothing.
        """
        self._errands.try_out(trying)
        for tryouts in trying.rounds():
            self._board.ask(tryouts)
            if not self._do_errands():
                return False
        return True

    def _do_errands(self) -> bool:
        """Have all that the board was asked for done; return whether it is: a stop ends that."""
        while not self._board.errands_done:
            if self._control().desired == "stop":
                return False
            self.step(learn=False)
        return True

    def step(self, *, learn: bool) -> None:
        """Give out what can be given out, wait for what comes, take it in."""
        now_s = self._clock()
        self._give_out(now_s, learn=learn)
        looking = now_s - self._looked_s >= LOOK_EVERY_S
        if looking:
            if self._paused:
                self._paused_s += now_s - self._looked_s
                self._watch.paused(now_s - self._looked_s)
            self._looked_s = now_s
            for event in self._crew.wait(0.0):  # a result that waits to be read is no sign of a worker that hangs
                self._take_in(event)
            self._look(now_s)
        for event in self._crew.wait(0.0 if looking else WAIT_S):
            self._take_in(event)
        self._watch.backups(self._board.num_backups)
        self._watch.tick(self._roster.views(self._board))

    def _over(self) -> bool:
        return self._serving and (self._board.learned or self._has_to_stop())

    def _has_to_stop(self) -> bool:
        if self._control().desired == "stop":
            return True
        spent_s = 0.0 if self._began_s is None else self._clock() - self._began_s - self._paused_s
        return self._rules.budget_s is not None and spent_s >= self._rules.budget_s

    def _look(self, now_s: float) -> None:
        """Follow the service's wishes, and what the cluster has; find those who hang."""
        control = self._control()
        if control.desired == "cancel":
            raise CancelledError("the meta-run was cancelled")
        for worker in self._board.hung(now_s):
            self._lose(worker, f"hung on {self._board.holds(worker)}")
        for worker in self._roster.overdue(now_s, start_s=self._rules.start_s, drain_s=self._rules.drain_s):
            if self._roster.is_leaving(worker):
                self._dismiss(worker, "had its time to finish")
            else:
                self._lose(worker, f"did not come up in {self._rules.start_s:.0f} s")
        self._resize(now_s, control.max_workers)

    def _resize(self, now_s: float, cap: int | None) -> None:
        rules, staying = self._rules, self._roster.staying()
        settled = all(state != "starting" for _, state in self._roster.states(self._board))
        wanted = num_wanted(
            num_now=len(staying),
            # What those hold that are just coming up is not told apart from room: so none more for now.
            room=self._crew.room() if settled else NO_ROOM,
            share=rules.share,
            max_workers=rules.max_workers,
            num_excluded=self._num_excluded,
            cap=cap,
        )
        self._watch.cap = cap
        self._paused = wanted == 0 and self._began_s is not None
        for _ in range(wanted - len(staying) if self._roster.may_start(now_s) else 0):
            self._crew.start_worker(self._roster.add(now_s))
        if len(staying) > wanted:
            for worker in to_retire(self._roster.states(self._board), wanted):
                self._roster.leaving(worker, now_s)
                if self._board.holds(worker) is None:
                    self._dismiss(worker, f"{wanted} workers are wanted now")
        if self._board.workers or wanted == 0:
            self._alone_since_s = now_s
        alone_s = now_s - self._alone_since_s
        self._watch.say(waited_for(rules.share, wanted, alone_s))
        if alone_s > rules.start_s:
            raise ends.nobody_came(rules.start_s, rules.share)

    def _give_out(self, now_s: float, *, learn: bool) -> None:
        # So many gradients may be on their way to the parameter actor: more would only pile up before it.
        learn = learn and self._serving and self._num_pushed < 2 * self._rules.config.num_slots
        for worker in self._roster.available(self._board):
            item = self._board.next_item(worker, now_s, learn=learn)
            if isinstance(item, Slot):
                if self._began_s is None:
                    self._began_s = now_s
                    self._watch.enter("learning")
                self._compute(worker, item)
            elif item is not None:
                self._errands.hand(worker, item)
        for worker, slot in self._board.queue_ahead(self._roster.staying()) if learn else ():
            self._compute(worker, slot)

    def _compute(self, worker: str, slot: Slot) -> None:
        board = self._board
        self._crew.compute(
            worker, slot, prior=self._prior, version=board.version, hint=board.hint(worker), divisor=self._divisor
        )

    def _take_in(self, event: Event) -> None:
        match event:
            case Joined():
                self._joined(event)
            case Lost(worker, why, short_of_memory):
                if short_of_memory is not None:
                    self._short_of_memory(worker, short_of_memory)
                if self._roster.knows(worker):  # else it is excluded
                    self._lose(worker, why)
            case PriorLost(worker, prior, why):
                self._prior_lost(worker, prior, why)
            case Computed():
                self._computed(event)
            case Judged(worker):
                self._errands.judged(event, self._clock(), host=self._roster.host(worker))
                self._let_go(worker)
            case Tried(worker):
                if not self._errands.tried(event, self._clock()):
                    self._exclude(worker, "for a trial", todo=ends.SMALLER_TRIALS)
                self._let_go(worker)
            case ServerReady():
                self._server_ready(event)
            case Applied():
                self._applied(event)
            case GradientLost(slot, why):
                self._num_pushed -= 1
                self._watch.event("warning", f"the gradient of {slot} was lost: {why}")
                self._board.reopen(slot)
            case Saved(step):
                self._saved_step, self._saving, self._num_servers_lost = step, False, 0
                self._watch.saved(step)
            case ServerLost(why):
                self._server_lost(why)
            case Failed(error):
                raise error

    def _joined(self, event: Joined) -> None:
        if not self._roster.knows(event.worker):
            return
        self._roster.joined(event.worker, event.info, event.actor_id)
        self._board.joined(event.worker)
        self._watch.event("worker_joined", f"{event.worker} on {event.info.host}, {event.info.device}")
        self._can_judge = event.info.can_judge
        if self._class_names is None:
            self._class_names = event.info.class_names
            if self._learning:
                self._crew.start_server(self._class_names)

    def _computed(self, event: Computed) -> None:
        report = event.report
        first = self._board.finished(event.worker, report.slot, self._clock(), seconds=report.seconds)
        self._roster.done(event.worker)
        if report.out_of_memory:
            if first:
                self._board.reopen(report.slot)
            self._short_of_memory(event.worker, report)
        elif first and self._serving and self._learning:
            self._watch.computed(report)
            self._num_pushed += 1
            self._crew.push(report, event.gradient)
        elif not first:
            self._watch.duplicate()
        self._let_go(event.worker)

    def _server_ready(self, event: ServerReady) -> None:
        standing = event.standing
        self._serving, self._prior = True, event.prior
        self._saved_step = standing.checkpoint_step or 0
        self._board.rewound(standing.version)
        for adjustment in standing.adjustments:
            self._divisor = max(self._divisor, adjustment.value)
        for adjustment in self._watch.adjustments:
            if adjustment not in standing.adjustments:  # made after its checkpoint
                self._crew.adjust(adjustment)
        self._watch.began(standing)
        if standing.unjudged:
            self._ask_curve(standing.version)

    def _applied(self, event: Applied) -> None:
        self._num_pushed -= 1
        self._watch.pushed(event.pushed)
        if event.pushed.outcome == "stale":
            self._board.reopen(event.slot)
        step = event.pushed.step
        if step is None or step.version <= self._board.version:
            return
        config = self._rules.config
        self._prior = event.prior
        self._board.advanced(step.version)
        self._watch.stepped(step)
        last = step.version == config.num_steps
        if last or step.version % config.evaluate_every == 0:
            self._ask_curve(step.version)
        if last or step.version % config.checkpoint_every == 0:
            self._save()

    def _ask_curve(self, version: int) -> None:
        if self._can_judge:
            self._errands.judge(f"step {version}", self._prior, self._rules.curve_tasks, version=version)

    def _server_lost(self, why: str) -> None:
        was = self._board.version
        self._serving, self._saving, self._num_pushed = False, False, 0
        self._num_servers_lost += 1
        self._watch.server_lost(why, was)
        if self._num_servers_lost >= self._rules.patience.max_losses:
            raise ends.server_keeps_dying(self._num_servers_lost, why)
        if self._class_names is not None:
            self._crew.start_server(self._class_names)

    def _prior_lost(self, worker: str, prior: Handle, why: str) -> None:
        """Have the parameter actor begin again, unless it has since: it is the version that is gone, not the worker."""
        if self._roster.knows(worker):
            self._board.left(worker, lost=False)
            self._board.joined(worker)
            self._let_go(worker)
        if self._serving and prior is self._prior:
            self._server_lost(f"its version was lost: {why}")

    def _lose(self, worker: str, why: str) -> None:
        item = self._board.holds(worker)
        never_came = worker not in self._board.workers
        num_losses = self._board.left(worker, lost=True)
        self._roster.remove(worker)
        self._crew.stop_worker(worker)
        self._watch.lost(worker, why)
        if never_came:
            self._roster.failed_start(self._clock())
            self._check_starts(why)
        if num_losses >= self._rules.patience.max_losses:
            raise ends.item_kills(item, num_losses, why)

    def _check_starts(self, why: str) -> None:
        num_failed = self._roster.num_failed_starts
        if num_failed >= self._rules.patience.max_losses and not self._board.workers:
            raise ends.starts_failed(num_failed, why)

    def _short_of_memory(self, worker: str, report: SlotReport) -> None:
        if report.batch_divisor < self._divisor or not self._roster.knows(worker):
            return  # smaller batches have not been tried here yet, or its other slot has had it excluded
        if self._divisor == 1:
            self._divisor = 2
            why = f"{worker} ran out of memory on {report.slot}"
            adjustment = Adjustment(step=self._board.version, what="batch_divisor", value=2, why=why)
            self._crew.adjust(adjustment)
            self._watch.adjusted(adjustment)
            return
        self._exclude(worker, "even for half batches", todo=ends.SMALLER_SLOTS)

    def _exclude(self, worker: str, needed: str, *, todo: str) -> None:
        """Do without a worker, whose place stays empty: another would be no larger."""
        host = self._roster.host(worker)
        self._num_excluded += 1
        self._dismiss(worker, f"excluded: {host} has too little memory {needed}")
        if not self._roster.staying():
            raise ends.memory_too_small(needed, f"{worker} on {host}", todo)

    def _let_go(self, worker: str) -> None:
        if self._roster.is_leaving(worker):
            self._dismiss(worker, "finished what it had begun")

    def _dismiss(self, worker: str, why: str) -> None:
        self._board.left(worker, lost=False)
        self._roster.remove(worker)
        self._crew.stop_worker(worker)
        self._watch.event("worker_left", f"{worker}: {why}")

    @property
    def _saved(self) -> bool:
        return self._saved_step >= self._board.version

    def _save(self) -> None:
        self._saving = True
        self._crew.save()
