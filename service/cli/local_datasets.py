"""Datasets of this machine as `archprior meta-train` gets them: each with its weight, its split and its terms."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from search_spaces.errors import InvalidOptionError
from workers.tasks.class_split import ClassSplit

if TYPE_CHECKING:
    from workers.meta.learning.data import LocalDataset

NOT_STATED: Final = "not stated"


def local_datasets(data: Sequence[str], splits: Sequence[Path], terms: Sequence[str]) -> "list[LocalDataset]":
    """Return what a meta-training learns from.

    Args:
        data: Each `PATH` or `PATH:WEIGHT`.
        splits: JSON files of class splits, none or one for each dataset.
        terms: None, one for all datasets, or one for each.

    Raises:
        InvalidOptionError: Splits or terms are not as many as datasets, or a weight is no number above 0.
        InvalidDatasetError: A split cannot be read.
    """
    from workers.meta.learning.data import LocalDataset  # takes seconds: torch comes with it

    if splits and len(splits) != len(data):
        raise _miscounted("--split", len(splits), f"none, or {len(data)}: one for each --data")
    if len(terms) > 1 and len(terms) != len(data):
        raise _miscounted("--terms", len(terms), f"one, or {len(data)}: one for each --data")
    all_terms = terms if len(terms) == len(data) else [*terms, NOT_STATED][:1] * len(data)
    chosen = []
    for position, text in enumerate(data):
        path, weight = path_and_weight(text)
        split = ClassSplit.read(splits[position]) if splits else None
        chosen.append(LocalDataset(path=path, split=split, weight=weight, terms=all_terms[position]))
    return chosen


def path_and_weight(text: str) -> tuple[Path, float | None]:
    """Return a path and the weight behind its last colon, None without one; a path that exists has its colons.

    Raises:
        InvalidOptionError: The weight is no number above 0.
    """
    path, colon, weight = text.rpartition(":")
    if not colon or Path(text).exists():
        return Path(text), None
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        expected = "a path that exists, or PATH:WEIGHT with a weight above 0"
        raise InvalidOptionError("--data", got=text, expected=expected)
    return Path(path), number


def _miscounted(option: str, number: int, expected: str) -> InvalidOptionError:
    return InvalidOptionError(f"{option} is given {number} times", expected=expected)
