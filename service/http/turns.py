"""Requests that wait for somebody else's answer: each owner has a few at once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from service.errors import QuotaExceededError

MAX_AT_ONCE: Final = 8
RETRY_S: Final = 5.0
"""When it is worth asking again: mostly an answer comes within a second, and one that does not come takes more than
ten."""


class Turns:
    """Gives each owner a few turns at a time, so that none holds up the others, and all owners together some more.

    One loop's tasks share it.

    Args:
        refusal: What an owner is told whose turns are all taken.
        per_owner: Turns of one owner at a time; who wants another one is refused.
        max_at_once: Of all owners; who comes later waits.
    """

    def __init__(self, refusal: str, *, per_owner: int, max_at_once: int = MAX_AT_ONCE) -> None:
        self._refusal, self._per_owner = refusal, per_owner
        self._places, self._taken = asyncio.Semaphore(max_at_once), Counter[str]()

    @asynccontextmanager
    async def one_of(self, owner: str) -> AsyncIterator[None]:
        """Let an owner have a turn, for the block's time.

        Raises:
            QuotaExceededError: It has all of its own already, or waits for them.
        """
        if self._taken[owner] >= self._per_owner:
            raise QuotaExceededError(
                self._refusal,
                retry_after_s=RETRY_S,
                expected=f"{self._per_owner} at a time",
                todo="Wait for the answer to the other request.",
            )
        self._taken[owner] += 1
        try:
            async with self._places:
                yield
        finally:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]  # owners come and go
