"""One call from its description to its answer: headers, retries, redirects, the service's problems as errors."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final, TypeVar

import httpx

from search_spaces.errors import InvalidOptionError
from service.client.errors import ServiceError, ServiceUnreachableError, problem_of
from service.client.requests import Request
from service.client.retries import RETRIED_STATUSES, RetryPolicy, retry_after_s
from service.client.transport import Addressed, Answer, Transport, Work, is_http, no_address, store_address

Result = TypeVar("Result")

CONNECT_TIMEOUT_S: Final = 5.0
HEADERS: Final = {"Accept-Encoding": "identity"}
# S3 asks for another try after its internal errors too.
NOT_WORKED_ON: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
STORE_RETRIED_STATUSES: Final = RETRIED_STATUSES | {HTTPStatus.INTERNAL_SERVER_ERROR}


class FailedTry(Exception):  # noqa: N818 (a step inside this room, which its callers never see)
    """One try that brought no answer of use.

    Attributes:
        error: What the caller is told if there is no other try.
        retried: Whether another one could do better.
        asked_s: Seconds after which the service wants to be asked again.
    """

    def __init__(
        self, error: ServiceError | ServiceUnreachableError, *, retried: bool, asked_s: float | None = None
    ) -> None:
        super().__init__(error)
        self.error, self.retried, self.asked_s = error, retried, asked_s


class Connection:
    """Calls to one service.

    Args:
        base_url: Root of the service, `http://` or `https://`.
        transport: Carries them out.
        api_key: Sent with every request to the service; None: none.
        timeout_s: Longest silence of the service within one try, in seconds.
        retries: For idempotent requests.

    Raises:
        InvalidOptionError: `base_url` is no HTTP address, or `api_key` no key.
    """

    def __init__(
        self, base_url: str, *, transport: Transport, api_key: str | None, timeout_s: float, retries: RetryPolicy
    ) -> None:
        self._base = _checked(base_url)
        self._headers = {**HEADERS, **_authorization(api_key)}
        self._timeout_s = timeout_s
        self.base_url = str(self._base)
        self.transport, self.retries = transport, retries

    async def call(self, request: Request, read: Callable[[Answer], Work[Result]]) -> Result:
        """Return what `read` makes of the answer, trying again where that is safe.

        Args:
            request: What is asked.
            read: Takes the open answer. A connection that breaks inside it counts as a failed try.

        Raises:
            ServiceError: The service, or the store to which it sends its clients, refused, or failed in every try.
            ServiceUnreachableError: No answer came in any try.
        """
        num_failures = 0
        while True:
            try:
                async with self.open(request) as answer:
                    return await read(answer)
            except FailedTry as failed:
                num_failures += 1
                again = request.idempotent and failed.retried
                delay_s = self.retries.delay_s(num_failures, failed.asked_s) if again else None
                if delay_s is None:
                    raise failed.error from failed.__cause__
            await self.transport.sleep(delay_s)

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncGenerator[Answer, None]:
        """Try once: yield an answer that is a success, or a status that the request accepts.

        Raises:
            FailedTry: There is none, or the connection broke within the block.
        """
        try:
            async with self._followed(request) as (answer, by_store):
                status = answer.response.status_code
                if not answer.response.is_success and status not in request.accepted:
                    failed = _refusal(answer.response, await answer.read(), by_store=by_store)
                    if request.files and status not in NOT_WORKED_ON:  # a proxy that has waited for too long, as below
                        failed.retried = False
                    raise failed
                yield answer
        except httpx.RequestError as error:
            # An upload whose answer did not come may be worked on: another one would double the work.
            retried = not request.files or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise FailedTry(self._unreachable(error), retried=retried) from error

    @asynccontextmanager
    async def _followed(self, request: Request) -> AsyncGenerator[tuple[Answer, bool], None]:
        """Yield an answer, or of one that sends a download to the store, the store's; and whether it is the store's."""
        addressed, to_store = self._addressed(request)
        async with self.transport.open(addressed) as answer:
            url = store_address(answer.response)
            if url is None or to_store:
                yield answer, to_store
                return
            onward = Addressed(
                request=Request(method="GET", target=str(url)), url=url, headers=HEADERS, timeout=addressed.timeout
            )
            async with self.transport.open(onward) as stored:
                yield stored, True

    def _addressed(self, request: Request) -> tuple[Addressed, bool]:
        """Return the request with its address and headers, and whether it goes to the store, which gets none of ours.

        Raises:
            ServiceError: The service has named a target that is no address.
        """
        to_store = not request.target.startswith("/")
        url = _store_url(request.target) if to_store else httpx.URL(self.base_url.rstrip("/") + request.target)
        headers = {**(HEADERS if to_store else self._headers), **request.headers}
        if request.content is not None:
            headers["Content-Length"] = str(request.content.num_bytes)
        # Without a limit on the wait for one of the own connections, which all may be in use for long.
        timeout = httpx.Timeout(request.timeout_s or self._timeout_s, connect=CONNECT_TIMEOUT_S, pool=None)
        return Addressed(request=request, url=url, headers=headers, timeout=timeout), to_store

    def _unreachable(self, error: httpx.RequestError) -> ServiceUnreachableError:
        asked = error.request.url
        if asked.netloc != self._base.netloc:
            return ServiceUnreachableError(
                f"no answer from {_store(asked)}",
                got=str(error) or type(error).__name__,
                todo="Does this machine reach what the service's ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL names?",
            )
        return ServiceUnreachableError(
            f"no answer from the service at {self.base_url}",
            got=str(error) or type(error).__name__,
            todo="Is it running, and is this its address? `archprior serve` starts one.",
        )


def _refusal(response: httpx.Response, body: bytes, *, by_store: bool) -> FailedTry:
    problem, asked_s = problem_of(response.status_code, body), retry_after_s(response.headers.get("Retry-After"))
    if not by_store:
        return FailedTry(ServiceError(problem), retried=response.status_code in RETRIED_STATUSES, asked_s=asked_s)
    todo = "Is it what the service's ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL should name, and does it hold the object?"
    told = {"title": f"{problem.title}, says {_store(response.url)}", "todo": problem.todo or todo}
    return FailedTry(
        ServiceError(problem.model_copy(update=told)),
        retried=response.status_code in STORE_RETRIED_STATUSES,
        asked_s=asked_s,
    )


def _store(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}, the store to which the service sends its clients"


def _store_url(target: str) -> httpx.URL:
    try:
        url = httpx.URL(target)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if not is_http(url):
        raise no_address(target, HTTPStatus.OK)
    return url


def _authorization(api_key: str | None) -> dict[str, str]:
    if api_key is None:
        return {}
    if not (api_key.isascii() and api_key.isprintable()) or " " in api_key:
        raise InvalidOptionError("not an API key", expected="one line, as `archprior keys create` has shown it")
    return {"Authorization": f"Bearer {api_key}"}


def _checked(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url.rstrip("/"))
    except httpx.InvalidURL:
        url = httpx.URL("")
    if not is_http(url):
        raise InvalidOptionError(
            "not a service's address", got=base_url, expected="something like http://127.0.0.1:8000"
        )
    return url
