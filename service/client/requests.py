"""What a call sends, as plain data: one description, whoever carries it out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from search_spaces.errors import InvalidOptionError

CHUNK_BYTES: Final = 1 << 18


@dataclass(frozen=True)
class FormFile:
    """A file of a form, by its path."""

    path: Path
    media_type: str


@dataclass(frozen=True, kw_only=True)
class FileSlice:
    """A part of a file, sent as a body without ever being in memory as a whole.

    Attributes:
        path: Of the file.
        offset: First byte.
        num_bytes: How many.
        on_sent: Told after each piece how many bytes were handed to the network; begins anew where the request does.
    """

    path: Path
    offset: int
    num_bytes: int
    on_sent: Callable[[int], None]

    def chunks(self) -> Iterator[bytes]:
        """Yield its bytes.

        Raises:
            InvalidOptionError: The file ends before the slice does.
        """
        left = self.num_bytes
        with self.path.open("rb") as file:
            file.seek(self.offset)
            while left:
                chunk = file.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise InvalidOptionError(
                        "the file has become shorter while it was sent", got=str(self.path), todo="Upload it anew."
                    )
                left -= len(chunk)
                yield chunk


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request.

    Attributes:
        method: HTTP method.
        target: Path below the service's root, beginning with a slash, already quoted; or the whole address of an
            object in the store, which gets none of the service's headers.
        idempotent: Whether it may be made twice; others are tried once. Nor is one with files repeated once it was sent
            but not answered in time.
        accepted: Error statuses that whoever reads the answer understands.
        query: Query parameters.
        headers: Beside those of every request to the service.
        json: Body, as JSON.
        form: Fields of a form body.
        files: Files of a multipart body, by the names of their fields.
        content: Body that is a part of a file.
        timeout_s: Longest silence in seconds, in place of the client's.
    """

    method: str
    target: str
    idempotent: bool = True
    accepted: frozenset[int] = frozenset()
    query: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: object = None
    form: Mapping[str, str] | None = None
    files: Mapping[str, FormFile] = field(default_factory=dict)
    content: FileSlice | None = None
    timeout_s: float | None = None


@contextmanager
def opened(files: Mapping[str, FormFile]) -> Iterator[dict[str, tuple[str, BinaryIO, str]] | None]:
    """Yield the files of a form, open for reading, or None where there are none."""
    with ExitStack() as stack:
        yield {
            name: (file.path.name, stack.enter_context(file.path.open("rb")), file.media_type)
            for name, file in files.items()
        } or None
