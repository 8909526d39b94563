"""Files of results, read for what the page needs of them; what else they hold is passed over."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from search_spaces.errors import ArchPriorError


class UnreadableResultsError(ArchPriorError):
    """A file of results that lacks what its section needs."""

    code = "unreadable_results"


class Seen(BaseModel):
    """What is read of a file, or of a part of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")


Kind = TypeVar("Kind", bound=Seen)


class Interval(Seen):
    """A mean and the ends of its 95 % interval; None where one value gave none."""

    mean: float
    low: float | None = None
    high: float | None = None

    def in_percent(self) -> "Interval":
        """Return a hundred times the interval: of shares, in percent or points."""
        ends = (None if end is None else 100 * end for end in (self.low, self.high))
        low, high = ends
        return Interval(mean=100 * self.mean, low=low, high=high)


class Machine(Seen):
    """What it was measured on; older files tell less."""

    cpus: int | None = None
    threads: int | None = None
    processor: str = ""
    memory_gb: float | None = None
    load_at_start: float | None = None


class Origin(Seen):
    """Where the numbers of a file come from, as far as it says."""

    benchmark: str
    command: str = ""
    at: str = ""
    machine: Machine = Machine()
    versions: dict[str, str] = {}
    code: tuple[str, ...] = ()
    gpu: object = "not run"


class Results:
    """One file of results.

    Args:
        path: Of the file, JSON.

    Raises:
        UnreadableResultsError: It is no JSON.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            self._document: object = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise UnreadableResultsError(f"{path} is no JSON", got=str(error)) from None
        self._path = path

    def read(self, kind: type[Kind]) -> Kind:
        """Return what a section needs of the file.

        Raises:
            UnreadableResultsError: It lacks a key, or a value is of another kind.
        """
        try:
            return kind.model_validate(self._document)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors()]
            raise UnreadableResultsError(
                f"{self._path} is not what its section reads",
                got="; ".join(faults[:3]),
                todo="Run its benchmark again, or change its section in benchmarks/results_page.",
            ) from None
