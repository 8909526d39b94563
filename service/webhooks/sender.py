"""Sends one message to one webhook."""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from http import HTTPStatus
from typing import Final

import httpx

from search_spaces.errors import ArchPriorError
from service.background import in_background
from service.errors import InvalidRequestError
from service.webhooks.addresses import Resolve, allowed_addresses, parsed, resolve
from service.webhooks.delays import asked_s
from service.webhooks.signing import signed_headers

TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 4.0
MAX_ANSWER_BYTES: Final = 1 << 16
USER_AGENT: Final = "ArchPrior-Webhooks"


@cache  # it reads some hundred certificates
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is sent.

    Attributes:
        id: The same each time that it is sent.
        body: JSON.
    """

    id: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one try.

    Attributes:
        status: Of the answer, if one came.
        error: Why the message was not taken; None: it was.
        asked_s: Seconds for which the receiver asks to be left alone.
    """

    status: int | None = None
    error: str | None = None
    asked_s: float = 0.0

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants no message any more."""
        return self.status == HTTPStatus.GONE


@dataclass(frozen=True, kw_only=True)
class Sender:
    """Sends messages, each over a connection of its own, to an address that was checked in the same breath.

    No redirect is followed and no proxy asked: both would lead elsewhere.

    Attributes:
        allow_private: Whether addresses that are not public may be asked.
        resolve: Tells the addresses of a name.
        timeout_s: Seconds for one try, in all.
        now: Tells the time, in seconds since the epoch.
        tls: Whom to trust; the certificates that `SSL_CERT_FILE` names, or those that the web trusts.
    """

    allow_private: bool
    resolve: Resolve = resolve
    timeout_s: float = TIMEOUT_S
    now: Callable[[], float] = time.time
    tls: ssl.SSLContext = field(default_factory=_tls)

    async def send(self, url: str, secret: str, message: Message) -> Outcome:
        """Return what becomes of a message that is sent now. It may have been taken though no answer came in time."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._send(url, secret, message)
        except TimeoutError:
            return Outcome(error=f"no answer within {self.timeout_s:g} s")
        except (httpx.RequestError, httpx.InvalidURL) as error:
            return Outcome(error=f"no answer: {error or type(error).__name__}")
        except InvalidRequestError as error:  # what was allowed when the webhook was made, and is no longer
            return Outcome(error="; ".join(error.findings))
        except ArchPriorError as error:
            return Outcome(error=error.what)

    async def _send(self, url: str, secret: str, message: Message) -> Outcome:
        named = parsed(url, allow_private=self.allow_private)
        find = partial(allowed_addresses, named, self.resolve, allow_private=self.allow_private)
        addresses = await in_background(find)  # a resolver may hang for longer than a try lasts
        timeout = httpx.Timeout(self.timeout_s, connect=CONNECT_TIMEOUT_S)
        async with httpx.AsyncClient(verify=self.tls, trust_env=False, timeout=timeout) as client:
            for address in addresses[:-1]:
                try:
                    return await self._post(client, named, address, secret, message)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    continue
            return await self._post(client, named, addresses[-1], secret, message)

    async def _post(
        self, client: httpx.AsyncClient, named: httpx.URL, address: str, secret: str, message: Message
    ) -> Outcome:
        """Send to one address, which has to prove that it has the name."""
        headers = {
            "Host": named.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            **signed_headers(secret, message_id=message.id, timestamp_s=int(self.now()), body=message.body),
        }
        request = client.build_request(
            "POST",
            named.copy_with(host=address),
            content=message.body,
            headers=headers,
            extensions={"sni_hostname": named.raw_host.decode("ascii")},
        )
        answer = await client.send(request, stream=True, follow_redirects=False)
        try:
            num_bytes = 0
            async for part in answer.aiter_raw():
                num_bytes += len(part)
                if num_bytes > MAX_ANSWER_BYTES:
                    break
        finally:
            await answer.aclose()
        if answer.is_success:
            return Outcome(status=answer.status_code)
        what = "a redirect, which is not followed" if answer.is_redirect else "a refusal"
        return Outcome(
            status=answer.status_code,
            error=f"{what}: status {answer.status_code}",
            asked_s=asked_s(answer.headers.get("Retry-After", ""), now_s=self.now()),
        )
