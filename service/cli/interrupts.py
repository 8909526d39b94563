"""Signals that ask a command to end, so that what it started can be ended first."""

import os
import signal
import sys
import threading
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
    """From now on SIGTERM, Ctrl-C and a hang-up unwind this process and end it with code 0: what a server is to do."""
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, _exit)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` leaves it
        signal.signal(signal.SIGHUP, _terminate)


def terminate_at_end_of_stdin() -> None:
    """From now on this process gets a SIGTERM when its stdin ends, as it does when whoever holds the pipe has died."""
    threading.Thread(target=_await_end_of_stdin, name="stdin", daemon=True).start()


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


def _terminate(_signum: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)  # for which the server has put in a handler of its own


def _await_end_of_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _exit(_signum: int, _frame: FrameType | None) -> None:
    sys.exit(0)
