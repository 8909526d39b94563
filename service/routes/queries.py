"""Queries that several lists share."""

from typing import Annotated, Final

from fastapi import Query

MAX_SEQUENCE: Final = 2**63 - 1
"""The largest number that every database takes."""

Limit = Annotated[int, Query(ge=1, le=100, description="Most items of this part.")]
Cursor = Annotated[
    str | None, Query(max_length=200, description="`next_cursor` of the part before. Absent: the first part.")
]
