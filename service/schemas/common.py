"""What several parts of the HTTP API take and return."""

from typing import Annotated, Final

from pydantic import Field

from workers.contracts.artifacts import Artifact
from workers.contracts.base import Contract

Priority = Annotated[
    int,
    Field(ge=-10, le=10, description="What waits goes by priority, the largest first, then in the order of arrival."),
]

PRINTABLE: Final = r"^[^\x00-\x1f\x7f]*$"
"""Without control characters: PostgreSQL finds nothing in a document that holds a NUL. Older records may hold some."""
Name = Annotated[str, Field(max_length=200, pattern=PRINTABLE)]


class Problem(Contract):
    """The one error body (RFC 9457 problem details), with what to do about it.

    Attributes:
        code: Stable name of the kind of error, for programs.
        errors: Further findings, one a line: each refused file or field.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    code: str
    todo: str = ""
    errors: tuple[str, ...] = ()


class ArtifactView(Artifact):
    """An artifact with the path to download it from, relative to the service's root."""

    href: str


class Page(Contract):
    """A part of a list; `next_cursor`, where present, asks for the following part."""

    next_cursor: str | None = None


class Health(Contract):
    """`ok` with one line for each part the service needs (records, store, ray)."""

    ok: bool
    parts: dict[str, str] = Field(default_factory=dict)
