"""What every group of calls shares: answers read as schemas, names that stay in their place, files checked."""

import os
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from service.client.connection import Connection
from service.client.downloads import save
from service.client.errors import BadDownloadError, ServiceError
from service.client.requests import Request
from service.client.retries import idempotency_headers
from service.client.transport import Answer
from service.schemas import ArtifactView, Problem
from workers.tasks.limits import ArchiveLimits

Schema = TypeVar("Schema")

API_KEY_VARIABLE: Final = "ARCHPRIOR_API_KEY"
UPLOAD_TIMEOUT_S: Final = ArchiveLimits().timeout_s + 300.0
"""The service answers an upload only once it has checked every image of it, which may have to wait for its turn."""


class Calls:
    """Calls over one connection. Written once, as coroutines: see `AsyncClient`, and `Client` for those that block."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def base_url(self) -> str:
        """Root of the service."""
        return self._connection.base_url

    async def _sleep(self, seconds: float) -> None:
        await self._connection.transport.sleep(seconds)

    async def _ask(self, request: Request, schema: type[Schema]) -> Schema:
        return await self._connection.call(request, partial(parsed, schema=schema))

    async def _get(self, path: str, schema: type[Schema], **query: str | int | None) -> Schema:
        present = {name: value for name, value in query.items() if value is not None}
        return await self._ask(Request(method="GET", target=path, query=present), schema)

    async def _post(self, path: str, schema: type[Schema], *, json: object = None, idempotent: bool = True) -> Schema:
        return await self._ask(Request(method="POST", target=path, json=json, idempotent=idempotent), schema)

    async def _create(self, path: str, schema: type[Schema], *, json: object, key: str | None) -> Schema:
        """Ask for something new, again and again until an answer comes: the key makes it one thing all the same."""
        return await self._ask(Request(method="POST", target=path, json=json, headers=idempotency_headers(key)), schema)

    async def _delete(self, path: str) -> None:
        """Delete something. Never retried: a second try finds nothing there."""
        await self._connection.call(Request(method="DELETE", target=path, idempotent=False), ignored)

    async def _download(self, path: str, artifact: ArtifactView, folder: Path) -> Path:
        """Write a file into `folder` under its own name, hash checked, whole or not at all; return its path.

        Raises:
            BadDownloadError: The bytes do not match the hash, or the name is no plain file name.
        """
        if artifact.name in ("", ".", "..") or not set(artifact.name).isdisjoint("/\\\0"):
            raise BadDownloadError("not a plain file name", got=artifact.name)
        target = folder / artifact.name
        await self._connection.call(
            Request(method="GET", target=f"{path}/{quoted(artifact.name)}"),
            partial(save, path=target, sha256=artifact.sha256),
        )
        return target


async def parsed(answer: Answer, schema: type[Schema]) -> Schema:
    """Return what an answer's body says.

    Raises:
        ServiceError: It says something of another shape.
    """
    body = await answer.read()
    try:
        return TypeAdapter(schema).validate_json(body)
    except ValidationError as error:
        findings = tuple(f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in error.errors()[:5])
        raise ServiceError(
            Problem(
                title="the service's answer cannot be read",
                status=answer.response.status_code,
                detail=f"{answer.response.request.method} {answer.response.request.url.path}",
                code="bad_answer",
                todo="Client and service may be of different versions, or this is another service's address.",
                errors=findings,
            )
        ) from error


async def ignored(answer: Answer) -> None:
    """Take an answer that says nothing but that it went well."""
    await answer.read()  # which leaves the connection free for the next call


def quoted(part: str) -> str:
    """Return a name as one part of a path."""
    return quote(part, safe="")


def key_of_environment() -> str | None:
    """Return the API key that the environment names, or None."""
    return os.environ.get(API_KEY_VARIABLE, "").strip() or None
