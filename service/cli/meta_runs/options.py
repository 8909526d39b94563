"""What a meta-run is to do, read from the command line."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from search_spaces.errors import InvalidOptionError, lookup
from service.cli.errors import as_invalid_option
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import DatasetChoice


def read_config(path: Path | None, assignments: Sequence[str] = ()) -> MetaConfig:
    """Return a meta-training's configuration: the defaults, changed by a file, changed by assignments.

    Lengths of the run's parts that neither names follow from the number of steps.

    Args:
        path: JSON of some or all fields, or None.
        assignments: Each `NAME=VALUE`; a value is JSON, or the string as it stands.

    Raises:
        UnknownNameError: A field does not exist; says which do.
        InvalidOptionError: The file cannot be read, an assignment is none, or a value cannot be.
    """
    fields = {} if path is None else _read_object(path)
    fields |= dict(_assignment(text) for text in assignments)
    for name in fields:
        lookup(MetaConfig.model_fields, name, kind="field of the configuration")
    try:
        return MetaConfig.model_validate(fields)
    except ValidationError as error:
        raise as_invalid_option("this configuration cannot be used", error, spell=str) from error


def dataset_choice(text: str) -> DatasetChoice:
    """Return the dataset that `ID` or `ID:WEIGHT` names.

    Raises:
        InvalidOptionError: The weight is no number above 0.
    """
    dataset_id, colon, weight = text.partition(":")
    try:
        return DatasetChoice.model_validate({"dataset_id": dataset_id, "weight": weight if colon else None})
    except ValidationError as error:
        raise as_invalid_option(f"--dataset {text}", error, spell=str) from error


def _read_object(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidOptionError(f"configuration {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidOptionError(f"configuration {path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidOptionError(f"configuration {path}", got=type(found).__name__, expected="a JSON object")
    return found


def _assignment(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidOptionError("--set", got=text, expected="NAME=VALUE, such as num_steps=500")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
