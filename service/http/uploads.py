"""Request bodies with files: streamed to the disk while they are hashed, bounded at every byte."""

import hashlib
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic_core import from_json
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from service.disk import Disk
from service.errors import InvalidBodyError, InvalidRequestError, TooLargeError, UnsupportedMediaTypeError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS: Final = 50
MAX_FIELD_BYTES: Final = 16_384
MAX_JSON_BYTES: Final = 1 << 20
CHUNK_BYTES: Final = 1 << 20
"""What is written and hashed at once: an upload arrives in pieces so small that the way to a thread would cost more."""


@dataclass(frozen=True, kw_only=True)
class FileField:
    """A file that a form may hold.

    Attributes:
        what: It is, in words.
        example: A name for such a file.
        max_bytes: Largest that is taken.
        todo: What to do about a larger one.
    """

    what: str
    example: str
    max_bytes: int
    todo: str


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file that came with a request; it is gone once the request is answered.

    Attributes:
        path: Where its bytes lie.
        filename: As the client calls it; may hold anything.
        sha256: Of its bytes, in hexadecimal.
    """

    path: Path
    filename: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Body:
    """What a request brought.

    Attributes:
        fields: Strings, where it was a form.
        uploads: Files by their field's name.
        is_json: Whether it was no form.
    """

    fields: Mapping[str, object]
    uploads: Mapping[str, Upload] = field(default_factory=dict)
    is_json: bool = False


@asynccontextmanager
async def receive(request: Request, *, disk: Disk, files: Mapping[str, FileField]) -> AsyncIterator[Body]:
    """Yield a request's body, a form (`multipart/form-data`) or JSON; remove its files afterwards.

    Args:
        request: Whose body was not read yet.
        disk: Where the files lie meanwhile.
        files: That a form may hold, by their field's name.

    Raises:
        UnsupportedMediaTypeError: The body is neither.
        InvalidBodyError: It cannot be read.
        InvalidRequestError: A field came twice, a file under another name than one of `files`, or a string under one.
        TooLargeError: It is, or a part of it is, over a limit.
        DiskFullError: The disk has no room for a file.
    """
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type == b"application/json":
        yield Body(fields=await _json_object(request), is_json=True)
    elif media_type == b"multipart/form-data" and b"boundary" in options:
        with tempfile.TemporaryDirectory(dir=disk.folder) as own:
            form = _Form(replace(disk, folder=Path(own)), options[b"boundary"], files)
            try:
                yield await form.read(request)
            finally:
                form.close()
    else:
        raise UnsupportedMediaTypeError(
            "a body of this kind is not taken",
            got=media_type.decode("latin-1") or None,
            expected=f"multipart/form-data with {_listed(files)}, or application/json",
        )


@asynccontextmanager
async def receive_file(request: Request, *, disk: Disk, num_bytes: int) -> AsyncIterator[Path]:
    """Yield a file with a request's body, which is of that size; remove it afterwards.

    Args:
        request: Whose body was not read yet.
        disk: Where the file lies meanwhile.
        num_bytes: Of the body.

    Raises:
        InvalidRequestError: The body is of another size.
        DiskFullError: The disk has no room for it.
    """
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told[:19]) != num_bytes:
        raise _of_another_size(told[:19], num_bytes)
    disk.require(num_bytes)
    with tempfile.TemporaryDirectory(dir=disk.folder) as own:
        path, num_received = Path(own) / "body", 0
        with path.open("wb") as target:
            async for chunk in _gathered(request):
                num_received += len(chunk)
                if num_received > num_bytes:
                    raise _of_another_size(f"more than {num_bytes}", num_bytes)
                await run_in_threadpool(target.write, chunk)
        if num_received < num_bytes:
            raise _of_another_size(str(num_received), num_bytes)
        yield path


async def _gathered(request: Request) -> AsyncIterator[bytes]:
    """Yield a body in chunks of about `CHUNK_BYTES`."""
    chunks: list[bytes] = []
    num_bytes = 0
    async for chunk in request.stream():
        chunks.append(chunk)
        num_bytes += len(chunk)
        if num_bytes >= CHUNK_BYTES:
            yield b"".join(chunks)
            chunks, num_bytes = [], 0
    if num_bytes:
        yield b"".join(chunks)


async def _json_object(request: Request) -> dict[str, object]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise TooLargeError("the JSON body is too large", expected=f"at most {MAX_JSON_BYTES} bytes")
    try:
        fields = from_json(body)  # which refuses half a surrogate pair, that no record and no answer can hold
    except ValueError as error:
        raise InvalidBodyError(f"the body is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidBodyError("the body is no JSON object", got=type(fields).__name__)
    return fields


class _Form:
    """Takes a form apart as it arrives."""

    def __init__(self, disk: Disk, boundary: bytes, files: Mapping[str, FileField]) -> None:
        self._parser = self._new_parser(boundary)
        self._disk, self._files = disk, files
        self._fields: dict[str, object] = {}
        self._uploads: dict[str, Upload] = {}
        self._incoming: _Incoming | None = None
        self._ended = False

    async def read(self, request: Request) -> Body:
        """Return what the request brings. Writing and hashing happen outside the event loop."""
        # With the bytes between and after its parts, a form is bounded too.
        most, num_bytes = sum(one.max_bytes for one in self._files.values()) + MAX_FIELDS * 2 * MAX_FIELD_BYTES, 0
        content_length = request.headers.get("content-length", "")
        if content_length.isdecimal() and int(content_length[:19]) > most:
            raise _too_large(self._files.values())
        async for chunk in _gathered(request):
            num_bytes += len(chunk)
            if num_bytes > most:
                raise _too_large(self._files.values())
            await run_in_threadpool(self._write, chunk)
        if not self._ended:
            raise InvalidBodyError("the form has no end", todo="Was the upload interrupted? Send it again.")
        return Body(fields=self._fields, uploads=self._uploads)

    def close(self) -> None:
        """Close the file that was being received, if the form has broken off in one."""
        if self._incoming is not None:
            self._incoming.file.close()

    def _new_parser(self, boundary: bytes) -> MultipartParser:
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin_part,
            "on_header_begin": self._begin_header,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._content,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        try:
            return MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise InvalidBodyError(f"the form cannot be read: {error}") from error

    def _write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidBodyError(f"the form cannot be read: {error}") from error

    def _begin_part(self) -> None:
        if len(self._fields) + len(self._uploads) >= MAX_FIELDS:
            raise TooLargeError("the form has too many fields", expected=f"at most {MAX_FIELDS}")
        self._headers: dict[bytes, bytes] = {}
        self._part_name, self._value = "", bytearray()

    def _begin_header(self) -> None:
        self._name, self._header = bytearray(), bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _end_header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._header)

    def _begin_content(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._part_name = options.get(b"name", b"").decode(errors="replace")
        if not self._part_name:
            raise InvalidBodyError("a part of the form has no name")
        name, kind = self._part_name, self._files.get(self._part_name)
        if name in self._fields or name in self._uploads:
            raise InvalidRequestError(f"the field {name} came twice")
        if b"filename" in options:
            if kind is None:
                raise InvalidRequestError(f"a file came as field {name}", expected=_listed(self._files))
            filename = options[b"filename"].decode(errors="replace")
            self._incoming = _Incoming(self._disk.folder / name, filename, kind)
        elif kind is not None:
            raise InvalidRequestError(f"the field {name} is no file", todo=f"With curl write {name}=@{kind.example}.")

    def _content(self, data: bytes, start: int, end: int) -> None:
        if self._incoming is not None:
            self._disk.require(end - start)
            self._incoming.write(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise TooLargeError(f"the field {self._part_name} is too long", expected=f"at most {MAX_FIELD_BYTES} bytes")

    def _end_part(self) -> None:
        if self._incoming is None:
            self._fields[self._part_name] = self._value.decode(errors="replace")
            return
        self._uploads[self._part_name] = self._incoming.finished()
        self._incoming = None

    def _end(self) -> None:
        self._ended = True


class _Incoming:
    """A file while it arrives."""

    def __init__(self, path: Path, filename: str, kind: FileField) -> None:
        self._path, self._filename, self._kind = path, filename, kind
        self._digest = hashlib.sha256()
        self._num_bytes = 0
        self.file = path.open("wb")

    def write(self, data: bytes) -> None:
        """Take the next bytes. Raises `TooLargeError`."""
        self._num_bytes += len(data)
        if self._num_bytes > self._kind.max_bytes:
            raise _too_large([self._kind])
        self._digest.update(data)
        self.file.write(data)

    def finished(self) -> Upload:
        """Return the file now that all of it is here."""
        self.file.close()
        return Upload(
            path=self._path, filename=self._filename, num_bytes=self._num_bytes, sha256=self._digest.hexdigest()
        )


def _of_another_size(got: str, num_bytes: int) -> InvalidRequestError:
    return InvalidRequestError("the body is of another size", got=f"{got} bytes", expected=f"{num_bytes} bytes")


def _listed(files: Mapping[str, FileField]) -> str:
    return ", ".join(f"{one.what} as field {name}" for name, one in files.items())


def _too_large(files: Collection[FileField]) -> TooLargeError:
    bounds = ", ".join(f"{one.what} of at most {one.max_bytes} bytes" for one in files)
    return TooLargeError("the upload is too large", expected=bounds, todo=" ".join(one.todo for one in files))
