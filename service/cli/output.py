"""What the commands write: results to stdout, everything else to stderr."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import typer
from pydantic import BaseModel
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_WITHOUT_TERMINAL = 200
"""Wide enough that no path is broken in two in a log."""
_ESCAPE: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def stdout() -> Console:
    """Return the console for results; plain where stdout is no terminal or NO_COLOR is set."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)


def stderr() -> Console:
    """Return the console for progress and notes."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)


def table(*columns: str, numbers: frozenset[int] = frozenset()) -> Table:
    """Return an empty table.

    Args:
        columns: Headings.
        numbers: Positions of the columns that hold numbers, set flush right.
    """
    made = Table(box=SIMPLE, pad_edge=False)
    for position, heading in enumerate(columns):
        made.add_column(heading, justify="right" if position in numbers else "left", overflow="fold")
    return made


def print_json(document: object) -> None:
    """Print one line of JSON; schemas become objects."""
    typer.echo(json.dumps(document, default=_plain, allow_nan=False))


def print_files(paths: Mapping[str, Path], *, as_json: bool) -> None:
    """Print what was downloaded, by name: where it lies and how large it is."""
    if as_json:
        print_json({name: str(path) for name, path in paths.items()})
        return
    files = table("file", "bytes", "path", numbers=frozenset({1}))
    for name, path in paths.items():
        files.add_row(name, f"{path.stat().st_size:,}", Text(str(path)))
    stdout().print(files)


def one_line(text: str) -> str:
    """Return text that a job, or whoever named a thing, has made, as one line that only shows itself."""
    return " ".join(plain_lines(text).split())


def plain_lines(text: str) -> str:
    """Return text of others' making without what would color, move or command a terminal."""
    return _CONTROL.sub("", _ESCAPE.sub("", text))


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")
