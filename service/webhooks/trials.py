"""Tries of webhooks, for which their owners wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from service.errors import QuotaExceededError

MAX_AT_ONCE: Final = 8
RETRY_S: Final = 5.0
"""When it is worth asking again; a try takes ten seconds at most."""


class Trials:
    """Lets each owner try one webhook at a time, so that none holds up the others, and a handful of owners at once.

    Args:
        max_at_once: Of all owners; who comes later waits.
    """

    def __init__(self, max_at_once: int = MAX_AT_ONCE) -> None:
        self._places, self._owners = asyncio.Semaphore(max_at_once), set[str]()

    @asynccontextmanager
    async def one_of(self, owner: str) -> AsyncIterator[None]:
        """Let an owner try a webhook, for the block's time.

        Raises:
            QuotaExceededError: It is trying another one.
        """
        if owner in self._owners:
            raise QuotaExceededError(
                "a webhook is being tried already",
                retry_after_s=RETRY_S,
                expected="one at a time",
                todo="Wait for the answer to the other request.",
            )
        self._owners.add(owner)
        try:
            async with self._places:
                yield
        finally:
            self._owners.remove(owner)
