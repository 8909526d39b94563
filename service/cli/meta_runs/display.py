"""How a command shows a meta-run that it follows: a board redrawn in place, a line for each change, or JSON."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.live import Live

from service.cli.meta_runs.board import board, numbers, way
from service.cli.output import print_json, stderr
from service.cli.progress import LINE_EVERY_S, clock_time, phase_of
from service.schemas import MetaRunView
from workers.contracts.meta_runs import MetaEvent

NUM_EVENTS: Final = 6
IN_LINES: Final = ("loss", "slots/s", "data wait")


class MetaDisplay(Protocol):
    """Shows a meta-run's way."""

    def show(self, view: MetaRunView, events: Sequence[MetaEvent]) -> None:
        """Show where a run stands, and what has happened since the call before."""


class LiveBoard:
    """All of a run, redrawn in place, with its last events."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._events: deque[MetaEvent] = deque(maxlen=NUM_EVENTS)

    def show(self, view: MetaRunView, events: Sequence[MetaEvent]) -> None:
        self._events.extend(events)
        self._live.update(board(view, tuple(self._events)), refresh=True)


class MetaLines:
    """A line for each event and each new phase, and every few seconds one for the steps and trials in between, if any.

    Args:
        console: Where the lines go.
        clock: Seconds, monotonic.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._start_s = self._last_s = clock()
        self._phase, self._done = "", (-1, 0)

    def show(self, view: MetaRunView, events: Sequence[MetaEvent]) -> None:
        for event in events:
            if event.kind != "phase":  # a new phase has a line anyway
                self._say(f"step {event.step:,}: {event.kind.replace('_', ' ')}: {event.message}")
        done = (view.progress.step, view.progress.num_tried) if view.progress else (0, 0)
        phase = phase_of(view)
        is_new = phase != self._phase
        if is_new or (done != self._done and self._clock() - self._last_s >= LINE_EVERY_S):
            self._phase, self._done, self._last_s = phase, done, self._clock()
            self._say("  ".join((phase, *_measured(view))))

    def _say(self, text: str) -> None:
        self._console.print(f"[{clock_time(self._clock() - self._start_s)}] {text}", markup=False, soft_wrap=True)


class JsonEvents:
    """Each event as a line of JSON on stdout."""

    def show(self, view: MetaRunView, events: Sequence[MetaEvent]) -> None:  # noqa: ARG002 -- comes last, by itself
        for event in events:
            print_json(event)


@contextmanager
def meta_display(*, as_json: bool) -> Iterator[MetaDisplay]:
    """Yield what suits stderr, or JSON on stdout where that is wanted."""
    console = stderr()
    if as_json:
        yield JsonEvents()
    elif sys.stderr.isatty() and not console.is_dumb_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield LiveBoard(live)
    else:
        yield MetaLines(console)


def _measured(view: MetaRunView) -> tuple[str, ...]:
    if view.progress is None:
        return ()
    measured = numbers(view.progress) if view.progress.step else {}
    return (way(view), *(f"{name} {measured[name]}" for name in IN_LINES if name in measured))
