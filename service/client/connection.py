"""What every group of calls shares: one transport, answers read as schemas, names that stay in their place."""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from service.client.downloads import save
from service.client.errors import BadDownloadError, ServiceError
from service.client.retries import RetryPolicy, idempotency_headers
from service.client.transport import Transport
from service.schemas import ArtifactView, Problem
from workers.tasks.limits import ArchiveLimits

Schema = TypeVar("Schema")

API_KEY_VARIABLE: Final = "ARCHPRIOR_API_KEY"
UPLOAD_TIMEOUT_S: Final = ArchiveLimits().timeout_s + 300.0
"""The service answers an upload only once it has checked every image of it, which may have to wait for its turn."""


class Connection:
    """A connection to one ArchPrior service; a context manager. See `Client`."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retries: RetryPolicy | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sleep = sleep
        self._transport = Transport(
            base_url,
            api_key=api_key or os.environ.get(API_KEY_VARIABLE, "").strip() or None,
            timeout_s=timeout_s,
            retries=retries or RetryPolicy(),
            sleep=sleep,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    @property
    def base_url(self) -> str:
        """Root of the service."""
        return self._transport.base_url

    def _get(self, path: str, schema: type[Schema], **query: str | int | None) -> Schema:
        present = {name: value for name, value in query.items() if value is not None}
        return self._transport.call("GET", path, partial(parsed, schema=schema), query=present)

    def _post(self, path: str, schema: type[Schema], *, json: object = None, idempotent: bool = True) -> Schema:
        return self._transport.call("POST", path, partial(parsed, schema=schema), json=json, idempotent=idempotent)

    def _create(self, path: str, schema: type[Schema], *, json: object, key: str | None) -> Schema:
        """Ask for something new, again and again until an answer comes: the key makes it one thing all the same."""
        read = partial(parsed, schema=schema)
        return self._transport.call("POST", path, read, json=json, headers=idempotency_headers(key))

    def _download(self, path: str, artifact: ArtifactView, folder: Path) -> Path:
        """Write a file into `folder` under its own name, hash checked, whole or not at all; return its path.

        Raises:
            BadDownloadError: The bytes do not match the hash, or the name is no plain file name.
        """
        if artifact.name in ("", ".", "..") or not set(artifact.name).isdisjoint("/\\\0"):
            raise BadDownloadError("not a plain file name", got=artifact.name)
        target = folder / artifact.name
        self._transport.call(
            "GET", f"{path}/{quoted(artifact.name)}", partial(save, path=target, sha256=artifact.sha256)
        )
        return target


def parsed(response: httpx.Response, schema: type[Schema]) -> Schema:
    """Return what an answer's body says.

    Raises:
        ServiceError: It says something of another shape.
    """
    body = response.read()
    try:
        return TypeAdapter(schema).validate_json(body)
    except ValidationError as error:
        findings = tuple(f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in error.errors()[:5])
        raise ServiceError(
            Problem(
                title="the service's answer cannot be read",
                status=response.status_code,
                detail=f"{response.request.method} {response.request.url.path}",
                code="bad_answer",
                todo="Client and service may be of different versions, or this is another service's address.",
                errors=findings,
            )
        ) from error


def quoted(part: str) -> str:
    """Return a name as one part of a path."""
    return quote(part, safe="")
