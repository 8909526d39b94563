"""Checks of what people hand in, each in a process of its own with bounded memory and time.

A reader of files that an upload crashes, or drives out of memory, takes only that process with it.
"""

import ctypes
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Final

from search_spaces.errors import ArchPriorError

PR_SET_PDEATHSIG: Final = 1
# How a process ends that what it read has crashed.
CRASHES: Final = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL})

logger = logging.getLogger(__name__)


class CheckFailedError(ArchPriorError):
    """The check itself has failed, which says nothing of what it checked."""

    code = "check_failed"


class CheckKilledError(ArchPriorError):
    """The process that checked was killed from outside: by a machine short of memory, or by a service that ends."""

    code = "check_killed"


class Checks:
    """The processes of the checks that run, so that whoever ends can end them too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def close(self) -> None:
        """Kill every check that runs; those that begin later are killed at once."""
        with self._lock:
            self._closed = True
            for process in self._running:
                process.kill()

    def add(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.add(process)
            if self._closed:
                process.kill()

    def remove(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.discard(process)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How the process of a check has ended.

    Attributes:
        code: Of its exit; negative: the signal that ended it.
        out_of_time: Whether it was ended because its time was over.
        output: What it wrote: its verdict.
        told: What it wrote to its standard error.
    """

    code: int
    out_of_time: bool
    output: bytes
    told: str

    @property
    def crashed_by(self) -> str | None:
        """The name of the signal by which the process crashed, or None where it did not crash."""
        return signal.Signals(-self.code).name if -self.code in CRASHES else None

    def without_verdict(self, what: str) -> ArchPriorError:
        """Return the error of a process that has ended before its verdict, and not by what it checked.

        Args:
            what: Was checked, in words.
        """
        if self.code < 0:
            name, todo = _name_of(-self.code), f"Try again in a moment; the {what} may be all right."
            return CheckKilledError(f"the check of the {what} was killed", got=name, todo=todo)
        logger.error("the check of the %s ended with code %d:\n%s", what, self.code, self.told)
        return CheckFailedError(f"the {what} could not be checked", todo="The service's log says why.")


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has none
        return f"signal {number}"


def run_module(module: str, *arguments: str, timeout_s: int, checks: Checks) -> Ended:
    """Run a Python module in a process of its own, and return how that ended.

    The process sees none of this one's environment, where secrets may be.

    Args:
        module: That checks, and writes its verdict.
        arguments: Of its command line.
        timeout_s: Seconds of wall clock until it is killed.
        checks: Where the process is to be found while it runs.
    """
    passed_on = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    with subprocess.Popen(
        [sys.executable, "-B", "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**passed_on, "PYTHONUTF8": "1"},
    ) as process:
        checks.add(process)
        try:
            output, told = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return Ended(code=-signal.SIGKILL, out_of_time=True, output=b"", told="")
        finally:
            process.kill()  # does nothing where it has ended
            checks.remove(process)
    code = process.returncode
    return Ended(code=code, out_of_time=-code == signal.SIGXCPU, output=output, told=told.decode(errors="replace"))


def end_with_parent() -> None:
    """Have Linux kill this process when the one that started it ends, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def bound_this_process(*, max_memory_bytes: int, timeout_s: int) -> None:
    """Bound address space and CPU time from here on, and forbid to write files or a memory dump."""
    for kind, bound, spare in (
        (resource.RLIMIT_AS, max_memory_bytes, 0),
        # At the soft bound comes SIGXCPU, which tells the reason; at the hard one SIGKILL, which tells none.
        (resource.RLIMIT_CPU, timeout_s, 1),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        _, hard = resource.getrlimit(kind)
        soft, new_hard = (one if hard == resource.RLIM_INFINITY else min(one, hard) for one in (bound, bound + spare))
        resource.setrlimit(kind, (soft, new_hard))
