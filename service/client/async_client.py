"""The typed client of the service's HTTP API, for programs with an event loop. Free of torch."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import anyio

from service.client.awaiting import AsyncTransport
from service.client.calls import key_of_environment
from service.client.connection import Connection
from service.client.retries import RetryPolicy
from service.client.service_calls import ServiceCalls


class AsyncClient(ServiceCalls):
    """A connection to one ArchPrior service for asyncio or trio; an asynchronous context manager.

    Does what `Client` does, in the same words. Several calls may be under way at once; one that is cancelled closes its
    connection.

    Args:
        base_url: Root of the service, such as `http://127.0.0.1:8000`.
        api_key: Of a service that asks for one; ARCHPRIOR_API_KEY if absent.
        timeout_s: Longest silence of the service within one try, in seconds.
        retries: How often, and with which delays.
        sleep: Waits the given number of seconds.

    Raises:
        InvalidOptionError: `base_url` is no HTTP address.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retries: RetryPolicy | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        super().__init__(
            Connection(
                base_url,
                transport=AsyncTransport(sleep),
                api_key=api_key or key_of_environment(),
                timeout_s=timeout_s,
                retries=retries or RetryPolicy(),
            )
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connection.transport.close()
