"""Carries out the runs of a suite: what is there counts, the rest is started, so many at once, and kept as it ends.

A run that waits for another's architecture starts after it; where that one failed, so has this one. Runs that ask for
the same (two arms that train the same architecture alike) are carried out once. Whoever executes is handed in: Ray, or
a fake.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from workers.bench.folder import BenchFolder
from workers.bench.records import Order, Outcome, RunRecord
from workers.bench.runs import Run, source_of
from workers.bench.stock import Stock
from workers.bench.suite import Suite
from workers.contracts.adaptations import Failure

SOURCE_FAILED = "source_failed"
# Seconds of a run in units of its budget, until some have been seen: it waits for a process, and decodes.
FIRST_GUESS = 1.4

Seen = tuple[float, float]
"""Of a run that has ended: its budget, and the seconds from its order to its end, the wait for a CPU included."""


class Executor(Protocol):
    """Executes orders, each in a process of its own."""

    def start(self, order: Order) -> None:
        """Begin one."""

    def next_ended(self) -> tuple[Run, Outcome | Failure]:
        """Wait until one that began has ended, and return how."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """One run has ended.

    Attributes:
        num_done: Of all runs, this one included.
        eta_s: Estimated seconds until the last one has ended.
    """

    run: Run
    record: RunRecord
    num_done: int
    num_runs: int
    eta_s: float


class Campaign:
    """The runs of a suite.

    Args:
        suite: Of the runs.
        runs: That are wanted, each after the one that it waits for.
        stock: Of what they need.
        folder: For their records; this process holds it.
        threads: CPU threads of each run.
        retry: Whether runs that have failed are run again.
        tell: Called for each run that ends; not for those that had ended before.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        suite: Suite,
        runs: Sequence[Run],
        stock: Stock,
        folder: BenchFolder,
        *,
        threads: int,
        retry: bool = False,
        tell: Callable[[Told], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._suite, self._runs, self._stock, self._folder = suite, runs, stock, folder
        self._threads, self._tell, self._clock = threads, tell, clock
        self.records: dict[Run, RunRecord] = {}
        self._since_s: dict[Run, float] = {}
        self._seen: list[Seen] = []
        self._num_at_once = 1
        # What was carried out, for whoever asks for the same; of this call's runs and of earlier ones'.
        self._carried_out: dict[str, RunRecord] = {}
        for record in folder.records():
            self._remember(record)
        for run in runs:
            self._take_up(run, retry=retry)

    def carry_out(self, executor: Executor, num_at_once: int) -> Mapping[Run, RunRecord]:
        """Run all that is missing and return the records of all."""
        active: dict[Run, Order] = {}
        self._num_at_once = num_at_once
        while True:
            while len(active) < num_at_once and (order := self._next_order(active)) is not None:
                self._since_s[order.run] = self._clock()
                active[order.run] = order
                executor.start(order)
            if not active:
                return self.records
            run, ended = executor.next_ended()
            record = _record(active.pop(run), ended)
            self._folder.write(run, record)
            if record.outcome is not None:
                self._seen.append((run.budget_s, self._clock() - self._since_s[run]))
            self._remember(record)
            self._keep(run, record)

    def left(self) -> list[Run]:
        """Return the runs that have not ended."""
        return [run for run in self._runs if run not in self.records]

    def _take_up(self, run: Run, *, retry: bool) -> None:
        """Count the record of an earlier call, if it is of the same order."""
        if self._waits(run):
            return
        record, order = self._folder.read(run), self._order(run)
        if record is None or record.fingerprint != order.fingerprint:
            return
        if record.outcome is None and (retry or order.fingerprint in self._carried_out):
            return
        # What shares an outcome shares it with the run that is there now, whichever it was before.
        self.records[run] = record if record.same_as is None else self._shared(order) or record

    def _next_order(self, active: Mapping[Run, Order]) -> Order | None:
        """Return the order of the first run that can begin, having settled those that cannot any more."""
        for run in self.left():
            source = source_of(self._suite, run)
            if source is not None and source in self.records and self.records[source].outcome is None:
                self._keep(run, _without_source(run, source))
            elif run not in active and not self._waits(run):
                order = self._order(run)
                if (shared := self._shared(order)) is not None:
                    self._folder.write(run, shared)
                    self._keep(run, shared)
                elif order.fingerprint not in {other.fingerprint for other in active.values()}:
                    return order
        return None

    def _remember(self, record: RunRecord) -> None:
        """Keep an outcome for whoever asks for the same."""
        if record.outcome is not None and record.same_as is None:
            self._carried_out.setdefault(record.fingerprint, record)

    def _shared(self, order: Order) -> RunRecord | None:
        """Return the record of an order by the outcome of another run that was asked for the same, if there is one."""
        record = self._carried_out.get(order.fingerprint)
        if record is None or record.outcome is None:
            return None
        return _record(order, record.outcome, same_as=record.run.key)

    def _waits(self, run: Run) -> bool:
        source = source_of(self._suite, run)
        return source is not None and (source not in self.records or self.records[source].outcome is None)

    def _order(self, run: Run) -> Order:
        return self._stock.order(self._suite, run, architecture=self._architecture(run), threads=self._threads)

    def _architecture(self, run: Run) -> str | None:
        given = self._suite.arms[run.arm].architecture
        if given is None or isinstance(given, str):
            return given
        source = source_of(self._suite, run)
        outcome = None if source is None else self.records[source].outcome
        return None if outcome is None else outcome.architecture

    def _keep(self, run: Run, record: RunRecord) -> None:
        self.records[run] = record
        left = self.left()
        self._tell(
            Told(
                run=run,
                record=record,
                num_done=len(self._runs) - len(left),
                num_runs=len(self._runs),
                eta_s=eta_s([one.budget_s for one in left], self._seen, self._num_at_once),
            )
        )


def eta_s(budgets_s: Sequence[float], seen: Sequence[Seen], num_at_once: int) -> float:
    """Return the seconds until runs with these budgets have ended, by what those seen took of theirs."""
    ratio = sum(took_s for _, took_s in seen) / sum(budget_s for budget_s, _ in seen) if seen else FIRST_GUESS
    return ratio * sum(budgets_s) / num_at_once


def _record(order: Order, ended: Outcome | Failure, same_as: str | None = None) -> RunRecord:
    run = order.run
    return RunRecord(
        dataset=run.dataset,
        arm=run.arm,
        seed=run.seed,
        budget_s=run.budget_s,
        fingerprint=order.fingerprint,
        request=order.request,
        same_as=same_as,
        outcome=ended if isinstance(ended, Outcome) else None,
        failure=ended if isinstance(ended, Failure) else None,
    )


def _without_source(run: Run, source: Run) -> RunRecord:
    failure = Failure(
        code=SOURCE_FAILED,
        what="the run whose architecture this one takes has failed",
        got=source.key,
        todo="Run again with --retry.",
    )
    return RunRecord(
        dataset=run.dataset,
        arm=run.arm,
        seed=run.seed,
        budget_s=run.budget_s,
        fingerprint="",
        request=None,
        failure=failure,
    )
