"""From the fields that a body brought to what they say."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from service.errors import InvalidRequestError
from workers.contracts.base import Contract

Fields = TypeVar("Fields", bound=Contract)


def parse_fields(schema: type[Fields], fields: Mapping[str, object]) -> Fields:
    """Return what a body's fields make; a form's strings become numbers where numbers are due.

    Raises:
        InvalidRequestError: Names every field that is wrong, and where one is not known, those that are.
    """
    try:
        return schema.model_validate(dict(fields))
    except ValidationError as error:
        findings = error.errors(include_url=False)
        unknown = any(found["type"] == "extra_forbidden" for found in findings)
        raise InvalidRequestError(
            "the request cannot be accepted",
            findings=(_finding(found["loc"], found["msg"], found["input"]) for found in findings),
            todo=f"Known fields: {', '.join(schema.model_fields)}." if unknown else "Correct these fields.",
        ) from error


def _finding(place: tuple[int | str, ...], message: str, given: object) -> str:
    return f"{'.'.join(map(str, place))}: {message}, got {str(given)[:100]!r}"
