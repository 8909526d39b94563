"""Coroutines without an event loop: how one set of calls serves programs that block, too."""

import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

from service.client.requests import FileSlice, opened
from service.client.transport import Addressed, Answer, Work, authorities, check_location, heeds_environment

Item = TypeVar("Item")
Result = TypeVar("Result")


def run(work: Work[Result]) -> Result:
    """Return what a coroutine returns that stands upon `BlockingTransport`, and therefore never suspends."""
    try:
        work.send(None)
    except StopIteration as ended:
        result: Result = ended.value
        return result
    work.close()
    raise RuntimeError("a call of the blocking client waited for an event loop")


def iterate(items: AsyncGenerator[Item, None]) -> Generator[Item, None, None]:
    """Yield what an asynchronous generator yields that stands upon `BlockingTransport`."""
    try:
        while True:
            try:
                item = run(_next(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(_close(items))


class BlockingAnswer:
    """An open answer of `httpx.Client`."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response

    async def read(self) -> bytes:
        return self.response.read()

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self.response.iter_bytes():
            yield chunk

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        for event in EventSource(self.response).iter_sse():
            yield event


class BlockingTransport:
    """Does each thing at once, in the calling thread; may be used by several threads.

    Args:
        sleep: Waits the given number of seconds.
    """

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._lock = threading.Lock()
        self._clients: dict[bool, httpx.Client] = {}

    @asynccontextmanager
    async def open(self, addressed: Addressed) -> AsyncGenerator[Answer, None]:
        request = addressed.request
        with (
            opened(request.files) as files,
            self._client(addressed.url).stream(
                request.method,
                addressed.url,
                params=request.query or None,
                headers=addressed.headers,
                json=request.json,
                data=request.form,
                files=files,
                content=None if request.content is None else _sent(request.content),
                timeout=addressed.timeout,
            ) as response,
        ):
            yield BlockingAnswer(response)

    async def sleep(self, seconds: float) -> None:
        self._sleep(seconds)

    async def compute(self, function: Callable[[], Result]) -> Result:
        return function()

    async def for_each(
        self,
        items: Iterable[Item],
        action: Callable[[Item], Work[None]],
        *,
        num_parallel: int,
        abandon: Callable[[], None],
    ) -> None:
        left = iter(tuple(items))  # whose `next` is atomic: each thread takes the one that follows
        failures: list[BaseException] = []

        def end(error: BaseException) -> None:
            failures.append(error)
            abandon()

        def act() -> None:
            for item in left:
                if failures:
                    return
                try:
                    run(action(item))
                except BaseException as error:
                    end(error)
                    raise

        with ThreadPoolExecutor(num_parallel, thread_name_prefix="archprior") as pool:
            try:
                wait([pool.submit(act) for _ in range(num_parallel)])
            except BaseException as error:  # an interrupt, too, must not wait for what is still to be sent
                end(error)
                raise
        if failures:
            raise failures[0]

    async def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _client(self, url: httpx.URL) -> httpx.Client:
        trust_env = heeds_environment(url.host)
        with self._lock:
            if trust_env not in self._clients:
                self._clients[trust_env] = httpx.Client(
                    trust_env=trust_env,
                    verify=authorities(trust_env=trust_env),
                    event_hooks={"response": [check_location]},
                )
            return self._clients[trust_env]


async def _next(items: AsyncGenerator[Item, None]) -> Item:
    return await anext(items)


async def _close(items: AsyncGenerator[Item, None]) -> None:
    await items.aclose()


def _sent(content: FileSlice) -> Generator[bytes, None, None]:
    num_bytes = 0
    for chunk in content.chunks():
        yield chunk
        num_bytes += len(chunk)
        content.on_sent(num_bytes)
