"""The processes that a benchmark has started: by name, and how much CPU each has used."""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Process:
    """A running process.

    Attributes:
        command: Its first argument, which Ray sets to what a worker is or does.
        cpu_s: CPU seconds of all its threads so far.
    """

    pid: int
    command: str
    cpu_s: float


def descendants(pid: int) -> list[Process]:
    """Return the children of a process, their children, and so on."""
    children: dict[int, list[Process]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended a moment ago
            cpu_s = (int(stat[11]) + int(stat[12])) / TICKS_PER_S
            children[int(stat[1])].append(Process(pid=int(folder.name), command=command, cpu_s=cpu_s))
    found, todo = [], [pid]
    while todo:
        mine = children[todo.pop()]
        found += mine
        todo += [process.pid for process in mine]
    return found


def cpu_by_role(processes: list[Process]) -> dict[str, float]:
    """Return CPU seconds summed by role: `ray::GradientWorker`, `raylet`, `gcs_server` and so on."""
    sums: dict[str, float] = defaultdict(float)
    for process in processes:
        name = Path(process.command).name if process.command.startswith("/") else process.command
        sums[name.partition(".")[0].strip()] += process.cpu_s
    return dict(sums)
