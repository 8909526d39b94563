"""Signals that ask a command to end, so that what it started can be ended first."""

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

Handler = Callable[[int, FrameType | None], None]

ENDINGS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block, SIGTERM and a hang-up unwind by `KeyboardInterrupt`, as Ctrl-C does."""
    # What `nohup` made deaf to a hang-up stays so.
    with _handled((one for one in ENDINGS if signal.getsignal(one) is not signal.SIG_IGN), _interrupt):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within the block, which must end by itself soon, SIGTERM, a hang-up and Ctrl-C do nothing."""
    with _handled((signal.SIGINT, *ENDINGS), _ignore):
        yield


def exit_on_signals() -> None:
    """From now on SIGTERM and Ctrl-C unwind this process and end it with code 0: what is asked of a server."""
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, _exit)


@contextmanager
def _handled(signals: Iterable[signal.Signals], handler: Handler) -> Iterator[None]:
    before = {one: signal.signal(one, handler) for one in signals}
    try:
        yield
    finally:
        for one, former in before.items():
            signal.signal(one, former)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _ignore(_signum: int, _frame: FrameType | None) -> None:
    pass


def _exit(_signum: int, _frame: FrameType | None) -> None:
    sys.exit(0)
