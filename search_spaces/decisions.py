"""What every space checks of a table of decisions: its padding, an architecture's choices, scores."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidArchitectureError, InvalidOptionError
from search_spaces.spec import Decision

FORMAT_VERSION: Final = 1
"""Of `architecture.json`."""


def option_mask(decisions: Sequence[Decision]) -> tuple[tuple[bool, ...], ...]:
    """Return [E, O]: True where decision e has an option o, False where the rectangular table is padded."""
    num_options = max(len(decision.options) for decision in decisions)
    return tuple(tuple(o < len(decision.options) for o in range(num_options)) for decision in decisions)


def check_choices(arch: Architecture, *, space: str, decisions: Sequence[Decision]) -> None:
    """Check that an architecture belongs to a space and takes one existing option at every decision.

    Raises:
        InvalidArchitectureError: It does not.
    """
    if arch.space != space:
        raise InvalidArchitectureError("architecture of another search space", got=arch.space, expected=space)
    if len(arch.choices) != len(decisions):
        raise InvalidArchitectureError(
            "wrong number of choices", got=len(arch.choices), expected=f"{len(decisions)} for {space}"
        )
    for decision, choice in zip(decisions, arch.choices, strict=True):
        if not 0 <= choice < len(decision.options):
            raise InvalidArchitectureError(
                f"choice at {decision.name}", got=choice, expected=f"an index from 0 to {len(decision.options) - 1}"
            )


def check_scores(scores: Sequence[Sequence[float]], decisions: Sequence[Decision]) -> list[list[float]]:
    """Return the scores of each decision's own options, without padding.

    Raises:
        InvalidOptionError: The table is not [E, O], or an option's score is NaN.
    """
    num_options = max(len(decision.options) for decision in decisions)
    if len(scores) != len(decisions) or any(len(row) != num_options for row in scores):
        shape = [len(scores), *sorted({len(row) for row in scores})]
        raise InvalidOptionError("shape of the scores", got=shape, expected=f"[{len(decisions)}, {num_options}]")
    table = [list(row[: len(decision.options)]) for row, decision in zip(scores, decisions, strict=True)]
    for decision, row in zip(decisions, table, strict=True):
        if any(math.isnan(score) for score in row):
            raise InvalidOptionError(f"scores at {decision.name}", got="NaN", expected="numbers")
    return table


def check_document(document: Mapping[str, object], *, space: str, keys: Sequence[str]) -> None:
    """Check that a JSON form names its space and has exactly the expected keys.

    `architecture.json` has a `format_version` beside them; one without is of version 1.

    Raises:
        InvalidArchitectureError: It does not.
    """
    if document.get("space") != space:
        raise InvalidArchitectureError("space of the architecture", got=document.get("space"), expected=repr(space))
    version = document.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise InvalidArchitectureError(
            "format_version of the architecture",
            got=version,
            expected=str(FORMAT_VERSION),
            todo="A newer ArchPrior wrote it: update this one.",
        )
    if set(document) - {"format_version"} != {"space", *keys}:
        raise InvalidArchitectureError(
            "keys of the architecture", got=sorted(document), expected=f"space, {', '.join(keys)}"
        )
