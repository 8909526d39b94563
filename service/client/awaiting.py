"""What `AsyncClient` stands upon: `httpx.AsyncClient` and anyio, so that asyncio and trio both do."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import httpx
from anyio import to_thread
from httpx_sse import EventSource, ServerSentEvent

from service.client.requests import FileSlice, opened
from service.client.transport import Addressed, Answer, Work, authorities, check_location, heeds_environment

Item = TypeVar("Item")
Result = TypeVar("Result")


class AwaitedAnswer:
    """An open answer of `httpx.AsyncClient`."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response

    async def read(self) -> bytes:
        return await self.response.aread()

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self.response.aiter_bytes():
            yield chunk

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        async for event in EventSource(self.response).aiter_sse():
            yield event


class AsyncTransport:
    """Waits without holding others up; a cancelled call closes its connection.

    Args:
        sleep: Waits the given number of seconds.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = anyio.sleep) -> None:
        self._sleep = sleep
        self._clients: dict[bool, httpx.AsyncClient] = {}

    @asynccontextmanager
    async def open(self, addressed: Addressed) -> AsyncGenerator[Answer, None]:
        request = addressed.request
        with opened(request.files) as files:
            async with self._client(addressed.url).stream(
                request.method,
                addressed.url,
                params=request.query or None,
                headers=addressed.headers,
                json=request.json,
                data=request.form,
                files=files,
                content=None if request.content is None else _sent(request.content),
                timeout=addressed.timeout,
            ) as response:
                yield AwaitedAnswer(response)

    async def sleep(self, seconds: float) -> None:
        await self._sleep(seconds)

    async def compute(self, function: Callable[[], Result]) -> Result:
        return await to_thread.run_sync(function)

    async def for_each(
        self,
        items: Iterable[Item],
        action: Callable[[Item], Work[None]],
        *,
        num_parallel: int,
        abandon: Callable[[], None],
    ) -> None:
        left = iter(items)

        async def act() -> None:
            for item in left:
                await action(item)

        try:
            async with anyio.create_task_group() as group:
                for _ in range(num_parallel):
                    group.start_soon(act)
        except BaseExceptionGroup as failures:
            abandon()
            raise failures.exceptions[0] from failures.exceptions[0].__cause__

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    def _client(self, url: httpx.URL) -> httpx.AsyncClient:
        trust_env = heeds_environment(url.host)
        if trust_env not in self._clients:
            self._clients[trust_env] = httpx.AsyncClient(
                trust_env=trust_env,
                verify=authorities(trust_env=trust_env),
                event_hooks={"response": [_check_location]},
            )
        return self._clients[trust_env]


async def _check_location(answer: httpx.Response) -> None:
    check_location(answer)


async def _sent(content: FileSlice) -> AsyncGenerator[bytes, None]:
    chunks, num_bytes = content.chunks(), 0
    while chunk := await to_thread.run_sync(next, chunks, b""):
        yield chunk
        num_bytes += len(chunk)
        content.on_sent(num_bytes)
