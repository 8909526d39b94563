"""From an answer to a file: streamed, checked, and there only when it is whole."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from service.client.errors import BadDownloadError
from service.client.transport import Answer


async def save(answer: Answer, path: Path, *, sha256: str) -> None:
    """Write a streamed body to `path` in constant memory; a file of that name is replaced, or kept on any failure.

    Args:
        answer: An open answer whose body is not read yet.
        path: Where the file shall lie; its folder is made if need be.
        sha256: What the bytes must hash to, in hexadecimal.

    Raises:
        BadDownloadError: The bytes hash to something else.
    """
    digest = hashlib.sha256()
    with _replacing(path) as file:
        async for chunk in answer.chunks():
            digest.update(chunk)
            file.write(chunk)
        if digest.hexdigest() != sha256:
            raise BadDownloadError(
                f"the download of {path.name} does not match its hash",
                got=digest.hexdigest(),
                expected=sha256,
                todo="Download it again; if that fails too, the stored file is damaged.",
            )


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(temporary).chmod(0o644)  # mkstemp's 0600 would hide a result from the owner's group
        Path(temporary).replace(path)
    except BaseException:  # an interrupt, too, must leave no part behind
        Path(temporary).unlink(missing_ok=True)
        raise
