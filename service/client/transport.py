"""One HTTP call: retries, the service's problems as errors, answers as schemas."""

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import BinaryIO, Final, TypeVar

import httpx

from search_spaces.errors import InvalidOptionError
from service.client.errors import ServiceError, ServiceUnreachableError, problem_of
from service.client.retries import RETRIED_STATUSES, RetryPolicy, retry_after_s
from service.schemas import Problem

Answer = TypeVar("Answer")
Upload = tuple[str, BinaryIO, str]

CONNECT_TIMEOUT_S = 5.0
HEADERS: Final = {"Accept-Encoding": "identity"}
# S3 asks for another try after its internal errors too.
STORE_RETRIED_STATUSES: Final = RETRIED_STATUSES | {HTTPStatus.INTERNAL_SERVER_ERROR}


class Transport:
    """Calls to one service over kept-open connections.

    Args:
        base_url: Root of the service, `http://` or `https://`.
        api_key: Sent with every call; None: none.
        timeout_s: Longest silence of the service within one try, in seconds.
        retries: For idempotent calls.
        sleep: Waits the given number of seconds.

    Raises:
        InvalidOptionError: `base_url` is no HTTP address, or `api_key` no key.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        timeout_s: float,
        retries: RetryPolicy,
        sleep: Callable[[float], None],
    ) -> None:
        url = _checked(base_url)
        self.base_url = str(url)
        self._timeout_s, self._retries, self._sleep = timeout_s, retries, sleep
        # A proxy that the environment names knows nothing of this machine's own ports.
        headers = {**HEADERS, **_authorization(api_key)}
        self._http = httpx.Client(
            base_url=url,
            headers=headers,
            trust_env=not _is_loopback(url.host),
            event_hooks={"response": [_check_location]},
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        read: Callable[[httpx.Response], Answer],
        *,
        idempotent: bool = True,
        accepted: frozenset[int] = frozenset(),
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        form: Mapping[str, str] | None = None,
        files: Mapping[str, Upload] | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Return what `read` makes of the answer, trying again where that is safe.

        Args:
            method: HTTP method.
            path: Below the service's root, beginning with a slash, already quoted.
            read: Takes the open response, whose body is not read yet, so that large bodies stream through it. A
                connection that breaks inside it counts as a failed try.
            idempotent: Whether the call may be made twice; others are tried once. Nor is a call with files repeated
                once it was sent but not answered in time.
            accepted: Error statuses that `read` understands.
            query: Query parameters.
            headers: Beside those of every call.
            json: Body, as JSON.
            form: Fields of a form body.
            files: Files of a multipart body, streamed from seekable files.
            timeout_s: In place of the client's.

        Raises:
            ServiceError: The service, or the store to which it sends a download, refused, or failed in every try.
            ServiceUnreachableError: No answer came in any try.
        """
        timeout = httpx.Timeout(timeout_s or self._timeout_s, connect=CONNECT_TIMEOUT_S)
        num_failures = 0
        while True:
            asked_s: float | None = None
            try:
                with (
                    self._http.stream(
                        method, path, params=query, headers=headers, json=json, data=form, files=files, timeout=timeout
                    ) as answer,
                    _followed(answer, timeout) as response,
                ):
                    if response.is_success or response.status_code in accepted:
                        return read(response)
                    failure: ServiceError | ServiceUnreachableError
                    problem = problem_of(response.status_code, response.read())
                    if response is answer:
                        failure, retried = ServiceError(problem), response.status_code in RETRIED_STATUSES
                    else:
                        failure = _refused_by_store(response.url, problem)
                        retried = response.status_code in STORE_RETRIED_STATUSES
                    asked_s = retry_after_s(response.headers.get("Retry-After"))
            except httpx.RequestError as error:
                failure = self._unreachable(error)
                # An upload whose answer did not come is being worked on: another one would double the work.
                retried = files is None or not isinstance(error, httpx.ReadTimeout)
            num_failures += 1
            delay_s = self._retries.delay_s(num_failures, asked_s) if idempotent and retried else None
            if delay_s is None:
                raise failure
            self._sleep(delay_s)

    def _unreachable(self, error: httpx.RequestError) -> ServiceUnreachableError:
        asked = error.request.url
        if asked.netloc != self._http.base_url.netloc:
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


@contextmanager
def _followed(answer: httpx.Response, timeout: httpx.Timeout) -> Iterator[httpx.Response]:
    """Yield an answer, or of one that sends a download to the store, the store's. It gets none of our headers."""
    sent_on = answer.status_code == HTTPStatus.TEMPORARY_REDIRECT and answer.has_redirect_location
    if not sent_on or answer.request.method != "GET":
        yield answer
        return
    url = answer.url.join(answer.headers["Location"])
    with httpx.stream("GET", url, headers=HEADERS, timeout=timeout, trust_env=not _is_loopback(url.host)) as stored:
        yield stored


def _check_location(answer: httpx.Response) -> None:
    """Refuse a redirect to what is no address. Httpx would call it a broken connection, which is worth another try."""
    if not answer.has_redirect_location:
        return
    try:
        is_address = _is_http(answer.url.join(answer.headers["Location"]))
    except (httpx.InvalidURL, UnicodeError):  # the latter of a host that is no international name
        is_address = False
    if not is_address:
        raise ServiceError(
            Problem(
                title="the service sends downloads to what is no address",
                status=answer.status_code,
                detail=repr(answer.headers["Location"].partition("?")[0][:200]),
                code=f"http_{answer.status_code}",
                todo="Look at the service's ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL.",
            )
        )


def _refused_by_store(url: httpx.URL, problem: Problem) -> ServiceError:
    todo = "Is it what the service's ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL should name, and does it hold the object?"
    return ServiceError(
        problem.model_copy(update={"title": f"{problem.title}, says {_store(url)}", "todo": problem.todo or todo})
    )


def _store(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}, the store to which the service sends downloads"


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
    if not _is_http(url):
        raise InvalidOptionError(
            "not a service's address", got=base_url, expected="something like http://127.0.0.1:8000"
        )
    return url


def _is_http(url: httpx.URL) -> bool:
    return url.scheme in ("http", "https") and bool(url.host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
