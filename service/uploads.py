"""Request bodies with a dataset: streamed to the disk while they are hashed, bounded at every byte."""

import hashlib
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic_core import from_json
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from service.errors import InvalidBodyError, InvalidRequestError, TooLargeError, UnsupportedMediaTypeError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FILE_FIELD: Final = "dataset"
MAX_FIELDS: Final = 50
MAX_FIELD_BYTES: Final = 16_384
MAX_JSON_BYTES: Final = 1 << 20


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
    """What a request brought: fields (strings, where it was a form), and the file if there was one."""

    fields: Mapping[str, object]
    upload: Upload | None = None


@asynccontextmanager
async def receive(request: Request, *, folder: Path, max_file_bytes: int) -> AsyncIterator[Body]:
    """Yield a request's body, a form (`multipart/form-data`) or JSON; remove its file afterwards.

    Args:
        request: Whose body was not read yet.
        folder: Where the file lies meanwhile.
        max_file_bytes: Largest file that is taken.

    Raises:
        UnsupportedMediaTypeError: The body is neither.
        InvalidBodyError: It cannot be read.
        InvalidRequestError: A field came twice, or a file under another name than `dataset`.
        TooLargeError: It is, or a part of it is, over a limit.
    """
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type == b"application/json":
        yield Body(fields=await _json_object(request))
    elif media_type == b"multipart/form-data" and b"boundary" in options:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            form = _Form(Path(own) / "upload", options[b"boundary"], max_file_bytes)
            yield await form.read(request)
    else:
        raise UnsupportedMediaTypeError(
            "a body of this kind is not taken",
            got=media_type.decode("latin-1") or None,
            expected="multipart/form-data with the zip as field `dataset`, or application/json with a dataset_id",
        )


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

    def __init__(self, path: Path, boundary: bytes, max_file_bytes: int) -> None:
        self._parser = self._new_parser(boundary)
        self._path, self._max_file_bytes = path, max_file_bytes
        self._fields: dict[str, object] = {}
        self._upload: Upload | None = None
        self._filename: str | None = None
        self._digest = hashlib.sha256()
        self._num_bytes = 0
        self._ended = False

    async def read(self, request: Request) -> Body:
        """Return what the request brings. Writing and hashing happen outside the event loop."""
        # With the bytes between and after its parts, a form is bounded too.
        most, num_bytes = self._max_file_bytes + MAX_FIELDS * 2 * MAX_FIELD_BYTES, 0
        content_length = request.headers.get("content-length", "")
        if content_length.isdecimal() and int(content_length[:19]) > most:
            raise self._too_large()
        with await run_in_threadpool(self._path.open, "wb") as self._file:
            async for chunk in request.stream():
                num_bytes += len(chunk)
                if num_bytes > most:
                    raise self._too_large()
                await run_in_threadpool(self._write, chunk)
        if not self._ended:
            raise InvalidBodyError("the form has no end", todo="Was the upload interrupted? Send it again.")
        return Body(fields=self._fields, upload=self._upload)

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
        if len(self._fields) + (self._upload is not None) >= MAX_FIELDS:
            raise TooLargeError("the form has too many fields", expected=f"at most {MAX_FIELDS}")
        self._headers: dict[bytes, bytes] = {}
        self._part_name, self._filename = "", None
        self._value = bytearray()

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
        if self._part_name in self._fields or (self._part_name == FILE_FIELD and self._upload is not None):
            raise InvalidRequestError(f"the field {self._part_name} came twice")
        if b"filename" in options:
            self._filename = options[b"filename"].decode(errors="replace")
            if self._part_name != FILE_FIELD:
                what = f"a file came as field {self._part_name}"
                raise InvalidRequestError(what, expected=f"the zip as field {FILE_FIELD}")
        elif self._part_name == FILE_FIELD:
            what = f"the field {FILE_FIELD} is no file"
            raise InvalidRequestError(what, todo=f"With curl write {FILE_FIELD}=@pets.zip.")

    def _content(self, data: bytes, start: int, end: int) -> None:
        if self._filename is not None:
            self._num_bytes += end - start
            if self._num_bytes > self._max_file_bytes:
                raise self._too_large()
            self._digest.update(data[start:end])
            self._file.write(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise TooLargeError(f"the field {self._part_name} is too long", expected=f"at most {MAX_FIELD_BYTES} bytes")

    def _end_part(self) -> None:
        if self._filename is None:
            self._fields[self._part_name] = self._value.decode(errors="replace")
            return
        self._upload = Upload(
            path=self._path, filename=self._filename, num_bytes=self._num_bytes, sha256=self._digest.hexdigest()
        )

    def _end(self) -> None:
        self._ended = True

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            "the upload is too large",
            expected=f"at most {self._max_file_bytes} bytes",
            todo="Send fewer or smaller images, or raise ARCHPRIOR_MAX_UPLOAD_BYTES.",
        )
