"""How a command shows that it is getting on: a live bar on a terminal, a line now and then elsewhere, or nothing."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

from service.cli.output import stderr
from service.schemas import AdaptationView, MetaRunView

LINE_EVERY_S: Final = 5.0


class Display(Protocol):
    """Shows steps without a known length, then an adaptation's way."""

    def step(self, text: str) -> None:
        """Show what is being done now."""

    def follow(self, view: AdaptationView) -> None:
        """Show where an adaptation stands."""


class Bar:
    """A spinner, a bar, and what is best so far, redrawn in place."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, share="", eta="", best="")

    def step(self, text: str) -> None:
        self._progress.update(self._task, description=text)

    def follow(self, view: AdaptationView) -> None:
        fraction = view.progress.fraction if view.progress else None
        self._progress.update(
            self._task,
            description=": ".join(part for part in (phase_of(view), _message(view)) if part),
            total=None if fraction is None else 1.0,
            completed=fraction or 0.0,
            share=_share(view),
            eta=_eta(view),
            best=_best(view),
        )


class Lines:
    """A line whenever the phase changes, and every few seconds in between.

    Args:
        console: Where the lines go.
        clock: Seconds, monotonic.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._start_s = self._last_s = clock()
        self._last_title = ""

    def step(self, text: str) -> None:
        self._say(text, "")

    def follow(self, view: AdaptationView) -> None:
        self._say(
            phase_of(view), "  ".join(part for part in (_share(view), _eta(view), _best(view), _message(view)) if part)
        )

    def _say(self, title: str, rest: str) -> None:
        now_s = self._clock()
        if title == self._last_title and now_s - self._last_s < LINE_EVERY_S:
            return
        self._last_title, self._last_s = title, now_s
        text = f"[{clock_time(now_s - self._start_s)}] {title}  {rest}".rstrip()
        self._console.print(text, markup=False, soft_wrap=True)


class Silence:
    """Shows nothing."""

    def step(self, text: str) -> None:
        pass

    def follow(self, view: AdaptationView) -> None:
        pass


@contextmanager
def display(*, quiet: bool, only_on_terminal: bool) -> Iterator[Display]:
    """Yield what suits stderr.

    Args:
        quiet: Show nothing at all.
        only_on_terminal: Show nothing where stderr is no terminal, in place of lines.
    """
    console = stderr()
    live = sys.stderr.isatty() and not console.is_dumb_terminal
    if quiet or (only_on_terminal and not live):
        yield Silence()
    elif live:
        with Progress(*bar_columns(), console=console, transient=True) as progress:
            yield Bar(progress)
    else:
        yield Lines(console)


def bar_columns() -> tuple[ProgressColumn, ...]:
    """Return the columns that `Bar` fills."""
    return (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[share]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[eta]}", markup=False),
        TextColumn("{task.fields[best]}", markup=False),
    )


def phase_of(view: AdaptationView | MetaRunView) -> str:
    """Return in one word what an adaptation or a meta-run is doing."""
    return view.progress.phase if view.state == "RUNNING" and view.progress else view.state.lower()


def _message(view: AdaptationView) -> str:
    return view.progress.message if view.progress else ""


def _share(view: AdaptationView) -> str:
    return f"{view.progress.fraction:4.0%}" if view.progress else ""


def _eta(view: AdaptationView) -> str:
    eta_s = view.progress.eta_s if view.progress else None
    return "" if eta_s is None else f"ETA {clock_time(eta_s)}"


def _best(view: AdaptationView) -> str:
    best = view.best or (view.progress.best if view.progress else None)
    return "" if best is None else f"best so far {best.query_accuracy:.1%}"


def clock_time(seconds: float) -> str:
    """Return a length of time as hours, minutes and seconds."""
    return str(timedelta(seconds=max(round(seconds), 0)))
