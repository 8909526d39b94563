"""What one answer reads of the store: nothing more once that has failed."""

from collections.abc import Callable
from typing import TypeVar

from workers.contracts.errors import StoreError

Read = TypeVar("Read")


class Reading:
    """The reads of one answer.

    A store that is silent takes its time before it fails. An answer about many works waits for that once, not once for
    each of them.
    """

    def __init__(self) -> None:
        self._failure: StoreError | None = None

    def ask(self, read: Callable[[], Read]) -> Read:
        """Return what the store holds.

        Args:
            read: Asks the store. Where a file is missing, it says so without an error, as `JobFiles` does.

        Raises:
            StoreError: The store fails, or has failed before in this answer and was not asked.
        """
        if self._failure is not None:
            raise StoreError("not read, as the store has just failed", got=self._failure.what)
        try:
            return read()
        except StoreError as error:
            self._failure = error
            raise
