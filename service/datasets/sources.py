"""Datasets that the service copies from buckets: which, and how they are read."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from service.errors import ForbiddenError, InvalidRequestError
from workers.contracts.errors import ObjectMissingError, StoreError
from workers.store.open import open_store


class SourceError(StoreError):
    """A source cannot be read."""


_SOURCE: Final = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,62})/([^?#\\%\x00-\x1f\x7f]+)")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Objects below the prefixes that the operator allows, read with the service's own credentials.

    Attributes:
        prefixes: `s3://bucket/folder/`, each with its last slash.
    """

    prefixes: tuple[str, ...]

    def size(self, source: str) -> int:
        """Return the size of a source in bytes.

        Raises:
            InvalidRequestError: It is no address of an object, or there is no such object.
            ForbiddenError: It lies below none of the prefixes.
            StoreError: The server refuses, or cannot be reached.
        """
        bucket, key = self._place(source)
        size = open_store(f"s3://{bucket}", serving=True).size(key)
        if size is None:
            raise InvalidRequestError("there is no such object", got=source, todo="Check the bucket and the key.")
        return size

    def read(self, source: str) -> Iterator[bytes]:
        """Yield a source's bytes in chunks, all of one version of it.

        Raises:
            ObjectMissingError: There is no such object.
            ForbiddenError: As `size`; the operator may have changed the prefixes.
            SourceError: The server refuses, or cannot be reached.
        """
        return _chunks(*self._place(source))

    def _place(self, source: str) -> tuple[str, str]:
        """Return the bucket and the key. What is compared is the text itself: nothing is decoded or resolved."""
        found = _SOURCE.fullmatch(source)
        if found is None or not {"", ".", ".."}.isdisjoint(found[2].split("/")):
            raise InvalidRequestError(
                "not the address of an object",
                got=source[:200],
                expected="s3://bucket/folder/file.zip, without a query, a backslash, a percent sign or parts like ..",
            )
        if not any(source.startswith(prefix) for prefix in self.prefixes):
            allowed = ", ".join(self.prefixes)
            raise ForbiddenError(
                "the service may not copy from there",
                got=source[:200],
                expected=f"something below {allowed}" if allowed else "nothing: no prefix is allowed",
                todo="The operator allows prefixes by ARCHPRIOR_SOURCE_PREFIXES=s3://bucket/folder/ (commas between).",
            )
        return found[1], found[2]


def _chunks(bucket: str, key: str) -> Iterator[bytes]:
    try:
        yield from open_store(f"s3://{bucket}").read(key)
    except ObjectMissingError:
        raise
    except StoreError as error:
        raise SourceError(error.what, got=error.got, expected=error.expected, todo=error.todo) from error
