"""How a command shows that bytes are on their way: a live bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from service.cli.output import stderr
from service.cli.progress import LINE_EVERY_S, clock_time

OnBytes = Callable[[int, int], None]


class TransferLines:
    """A line every few seconds, and one at the end.

    Args:
        text: What is sent.
        then: What happens once all is.
        console: Where the lines go.
        clock: Seconds, monotonic.
    """

    def __init__(self, text: str, then: str, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._text, self._then, self._console, self._clock = text, then, console, clock
        self._start_s = self._last_s = clock()
        self._first_bytes: int | None = None

    def sent(self, num_bytes: int, total_bytes: int) -> None:
        """Show how far the bytes have come."""
        now_s = self._clock()
        first_bytes = self._first_bytes = num_bytes if self._first_bytes is None else self._first_bytes
        if now_s - self._last_s < LINE_EVERY_S and num_bytes < total_bytes:
            return
        self._last_s = now_s
        parts = [f"{num_bytes / total_bytes:4.0%}", f"{decimal(num_bytes)} of {decimal(total_bytes)}"]
        # What had arrived before does not make this transfer fast.
        per_s = (num_bytes - first_bytes) / max(now_s - self._start_s, 1e-9)
        if per_s > 0:
            parts += [f"{decimal(round(per_s))}/s", f"ETA {clock_time((total_bytes - num_bytes) / per_s)}"]
        self._say(now_s, f"{self._text}  {'  '.join(parts)}")
        if num_bytes == total_bytes:
            self._say(now_s, self._then)

    def _say(self, now_s: float, text: str) -> None:
        self._console.print(f"[{clock_time(now_s - self._start_s)}] {text}", markup=False, soft_wrap=True)


@contextmanager
def transfer(text: str, *, then: str, only_on_terminal: bool) -> Iterator[OnBytes]:
    """Yield what shows the bytes sent of those there are, in the way that suits stderr.

    Args:
        text: What is sent.
        then: What happens once all is.
        only_on_terminal: Show nothing where stderr is no terminal, in place of lines.
    """
    console = stderr()
    if sys.stderr.isatty() and not console.is_dumb_terminal:
        with Progress(*transfer_columns(), console=console, transient=True) as progress:
            task = progress.add_task(text, total=None)

            def show(sent: int, total: int) -> None:
                progress.update(task, completed=sent, total=total, description=text if sent < total else then)

            yield show
    elif only_on_terminal:
        yield lambda _sent, _total: None
    else:
        yield TransferLines(text, then, console).sent


def transfer_columns() -> tuple[ProgressColumn, ...]:
    """Return the columns of the bar: what, how much of it, how fast, and how long it will take."""
    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
