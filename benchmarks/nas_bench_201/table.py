"""A table of known accuracies of NAS-Bench-201's cells, and the log of every look into it.

CSV, gzipped or not: `index`, `ops` (six digits, see `cells`), then a column of accuracies in percent for each training
length and dataset, such as `e12_cifar10-val` or `e200_cifar10-test`. Whoever asks says who it is and after which
decision; nothing but the judge may import this, and a test sees to that.
"""

import csv
import gzip
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

from benchmarks.nas_bench_201.cells import cell_of, digits_of
from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidArchitectureError, InvalidOptionError, UnknownNameError

INDEX, OPS = "index", "ops"
FORM: Final = f"a CSV file, gzipped or not, with the columns {INDEX}, {OPS} and one or more of accuracies"
Record = dict[str, object]


class LookupLog:
    """Appends a line of JSON for each look into a table.

    Args:
        path: Of the log; what it holds stays.
        now: The time of day.
    """

    def __init__(self, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path, self._now = path, now
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, record: Record) -> None:
        """Add a line, with the time."""
        with self._path.open("a") as lines:
            lines.write(json.dumps({"at": self._now().isoformat(timespec="milliseconds"), **record}) + "\n")


class Table:
    """Accuracies in percent by cell; each answer is logged before it is given.

    Args:
        path: Of the table.
        log: Where look-ups go.

    Raises:
        InvalidOptionError: No such table, or a row that cannot be read.
    """

    def __init__(self, path: Path, log: LookupLog) -> None:
        self.path, self._log = path, log
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        self._rows: dict[Architecture, dict[str, str]] = {}
        with _opened(path) as lines:
            reader = csv.DictReader(lines)
            self.columns = _accuracies(path, reader.fieldnames or ())
            for row in reader:
                try:
                    cell = cell_of(row[OPS] or "")
                except InvalidArchitectureError as error:
                    raise _wrong(path, reader.line_num, error.got, error.expected) from error
                if cell in self._rows:
                    raise _wrong(path, reader.line_num, row[OPS], "each cell once")
                self._rows[cell] = row

    @property
    def cells(self) -> tuple[Architecture, ...]:
        """All cells of the table; which there are says nothing of how good they are."""
        return tuple(self._rows)

    def accuracies(self, cells: Sequence[Architecture], column: str, *, asker: str, after: str) -> list[float]:
        """Return the accuracies of some cells in percent.

        Args:
            cells: Looked up.
            column: See `columns`.
            asker: Who asks.
            after: The decision that was made before.

        Raises:
            InvalidOptionError: The table lacks a cell, or has no number for it.
            UnknownNameError: It lacks the column.
        """
        check_column(self.path, self.columns, column)
        digits = [digits_of(cell) for cell in cells]
        self._log.write({"asker": asker, "after": after, "column": column, "ops": digits})
        if missing := [digits_of(cell) for cell in cells if cell not in self._rows]:
            raise InvalidOptionError(f"cells that {self.path} lacks", got=", ".join(missing), expected="all 15,625")
        return [self._number(cell, column) for cell in cells]

    def column(self, column: str, *, asker: str, after: str) -> Mapping[Architecture, float]:
        """Return all accuracies of a column; arguments and errors as in `accuracies`."""
        check_column(self.path, self.columns, column)
        self._log.write({"asker": asker, "after": after, "column": column, "ops": "all", "num_cells": len(self._rows)})
        return {cell: self._number(cell, column) for cell in self._rows}

    def _number(self, cell: Architecture, column: str) -> float:
        text = self._rows[cell][column]
        try:
            value = float(text)
        except (TypeError, ValueError):
            value = math.nan
        if not 0 <= value <= 100:
            what = f"{column} of cell {digits_of(cell)} in {self.path}"
            raise InvalidOptionError(what, got=text, expected="an accuracy in percent, 0 to 100")
        return value


def read_columns(path: Path) -> tuple[str, ...]:
    """Return the names of a table's columns of accuracies; reads no row.

    Raises:
        InvalidOptionError: No such table.
    """
    with _opened(path) as lines:
        return _accuracies(path, next(csv.reader(lines), []))


def check_column(path: Path, columns: Sequence[str], column: str) -> None:
    """Raise `UnknownNameError`, which names those that exist, unless the table has the column."""
    if column not in columns:
        expected = f"one of {', '.join(columns)}"
        raise UnknownNameError(f"unknown column of {path}", got=column, expected=expected)


def other_datasets(columns: Sequence[str], column: str) -> dict[str, str]:
    """Return the columns of other datasets that belong to a column of CIFAR-10, by dataset; none where none do.

    `e12_cifar10-val` has `e12_cifar100-val`. A split of another name is taken where there is only one.
    """
    length, _, rest = column.partition("_")
    split = rest.partition("-")[2]
    found: dict[str, str] = {}
    for name in ("cifar100", "imagenet"):
        theirs = [other for other in columns if other.startswith(f"{length}_{name}")]
        same = [other for other in theirs if other.partition("-")[2] == split]
        if len(chosen := same or theirs) == 1:
            found[name] = chosen[0]
    return found


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if not path.is_file():
        todo = "Name it by --table, or set ARCHPRIOR_SHARED_DATA to its folder."
        raise InvalidOptionError("no table of accuracies there", got=str(path), expected=FORM, todo=todo)
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as lines:
            yield lines
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise InvalidOptionError(f"the table {path} cannot be read ({error})", expected=FORM) from error


def _accuracies(path: Path, header: Sequence[str]) -> tuple[str, ...]:
    found = tuple(name for name in header if name not in (INDEX, OPS))
    if OPS not in header or not found:
        raise InvalidOptionError(f"the columns of {path}", got=", ".join(header), expected=FORM)
    return found


def _wrong(path: Path, line: int, got: object, expected: str) -> InvalidOptionError:
    return InvalidOptionError(f"line {line} of {path}", got=got, expected=expected)
