"""What differs between a client that blocks and one that awaits: sending, reading, waiting, doing several things."""

import functools
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

import httpx
from httpx_sse import ServerSentEvent

from service.client.errors import ServiceError
from service.client.requests import Request
from service.schemas import Problem

Item = TypeVar("Item")
Result = TypeVar("Result")

Work = Coroutine[Any, Any, Result]


@dataclass(frozen=True, kw_only=True)
class Addressed:
    """A request with all that is sent: where it goes, with which headers, and how long to wait."""

    request: Request
    url: httpx.URL
    headers: dict[str, str]
    timeout: httpx.Timeout


class Answer(Protocol):
    """An open answer, whose body is not read yet, so that large ones stream through."""

    @property
    def response(self) -> httpx.Response:
        """Its status and headers."""

    async def read(self) -> bytes:
        """Return the whole body."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body piece by piece."""

    def events(self) -> AsyncIterator[ServerSentEvent]:
        """Yield the events of a `text/event-stream` as they come."""


class Transport(Protocol):
    """How a client does what takes time.

    Its methods are coroutines. Those of `BlockingTransport` never suspend, so that whatever is written once upon them
    can be run to its end by `blocking.run`, without an event loop.
    """

    def open(self, addressed: Addressed) -> AbstractAsyncContextManager[Answer]:
        """Send a request; the answer is closed at the end of the block.

        Raises:
            httpx.RequestError: No answer came.
            ServiceError: It is a redirect to what is no address.
        """

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def compute(self, function: Callable[[], Result]) -> Result:
        """Return what a function returns that takes a while, without holding others up."""

    async def for_each(
        self,
        items: Iterable[Item],
        action: Callable[[Item], Work[None]],
        *,
        num_parallel: int,
        abandon: Callable[[], None],
    ) -> None:
        """Do something with each item, `num_parallel` at a time.

        The first failure ends it and is raised; `abandon` is called then, and shall make what still goes on end soon.
        """

    async def close(self) -> None:
        """Close the connections."""


def is_http(url: httpx.URL) -> bool:
    """Return whether an address is one that can be asked."""
    return url.scheme in ("http", "https") and bool(url.host)


def heeds_environment(host: str) -> bool:
    """Return whether a proxy that the environment names is asked: it knows nothing of this machine's own ports."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


@functools.cache
def authorities(*, trust_env: bool) -> ssl.SSLContext:
    """Return whose certificates are believed. Reading them takes longer than most calls, so all clients share them."""
    return httpx.create_ssl_context(trust_env=trust_env)


def store_address(answer: httpx.Response) -> httpx.URL | None:
    """Return where an answer to a download sends us on, or None where it is an answer itself."""
    sent_on = answer.status_code == HTTPStatus.TEMPORARY_REDIRECT and answer.has_redirect_location
    if not sent_on or answer.request.method != "GET":
        return None
    return answer.url.join(answer.headers["Location"])


def check_location(answer: httpx.Response) -> None:
    """Refuse a redirect to what is no address. Httpx would call it a broken connection, which is worth another try."""
    if not answer.has_redirect_location:
        return
    location = answer.headers["Location"]
    try:
        is_address = is_http(answer.url.join(location))
    except (httpx.InvalidURL, UnicodeError):  # the latter of a host that is no international name
        is_address = False
    if not is_address:
        raise no_address(location, answer.status_code)


def no_address(location: str, status: int) -> ServiceError:
    """Return the error of a service that sends its clients to what is no address; the query, which may sign, is cut."""
    return ServiceError(
        Problem(
            title="the service sends its clients to what is no address",
            status=status,
            detail=repr(location.partition("?")[0][:200]),
            code=f"http_{status}",
            todo="Look at the service's ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL.",
        )
    )
