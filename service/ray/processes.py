"""Processes by id, on Linux: which of them live, which belong together, and how to end them."""

import os
import signal
import time
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
POLL_S: Final = 0.02


def mark(pid: int) -> str | None:
    """Return what tells this process from a later one with the same id, or None where it does not live.

    A process that has ended but that nobody has waited for does not live.
    """
    _reap(pid)
    try:
        # The command's name, in parentheses, may hold anything; the fields after it are numbers and one letter.
        state, *fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    num_threads, started = int(fields[16]), fields[18]
    # A process whose first thread has ended looks like a zombie while its other threads still work.
    ended = state == "X" or (state == "Z" and num_threads <= 1)
    return None if ended else f"{_boot()}/{started}"


def session_members(session: int) -> set[int]:
    """Return the ids of the living processes of a session."""
    return {pid for pid in _all() if _session(pid) == session and mark(pid) is not None}


def descendants(pid: int) -> dict[int, str]:
    """Return the living children of a process, theirs, and so on: ids with their marks."""
    children: dict[int, list[int]] = {}
    for other in _all():
        parent = _parent(other)
        if parent is not None:
            children.setdefault(parent, []).append(other)
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            own = mark(child)
            if own is not None and child not in found:
                found[child] = own
                waiting.append(child)
    return found


def terminate(pid: int, own_mark: str, *, timeout_s: float) -> bool:
    """Ask a process to end; return whether it did in time. A process that took over its id is not touched."""
    if mark(pid) == own_mark:
        _signal(pid, signal.SIGTERM)
    return wait_ended({pid: own_mark}, timeout_s=timeout_s)


def kill(marked: dict[int, str], *, timeout_s: float) -> bool:
    """Kill processes that still bear their marks; return whether all are gone in time."""
    for pid, own_mark in marked.items():
        if mark(pid) == own_mark:
            _signal(pid, signal.SIGKILL)
    return wait_ended(marked, timeout_s=timeout_s)


def wait_ended(marked: dict[int, str], *, timeout_s: float) -> bool:
    """Wait until none of these processes lives; return whether that came in time."""
    deadline = time.monotonic() + timeout_s
    while any(mark(pid) == own_mark for pid, own_mark in marked.items()):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except (ChildProcessError, OverflowError):
        return  # not a child of ours: others wait for it


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has just ended


def _all() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _parent(pid: int) -> int | None:
    try:
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
