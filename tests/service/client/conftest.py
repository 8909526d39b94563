"""A real HTTP server that answers by script."""

import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from service.client import AsyncClient, Client

CHUNK_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server says next; `cut` closes the connection that many bytes before the promised end."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    num_bytes: int
    head: bytes


class ScriptedServer:
    """Gives its answers in order, the last one again and again; remembers what was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[Request] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                head, left = b"", length
                while left:
                    chunk = self.rfile.read(min(left, CHUNK_BYTES))
                    left -= len(chunk)
                    head = head or chunk
                request = Request(
                    method=self.command, path=self.path, headers=dict(self.headers), num_bytes=length, head=head
                )
                script.requests.append(request)
                answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body if answer.cut is None else answer.body[: -answer.cut])
                self.close_connection = answer.cut is not None

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, *answers: Answer) -> None:
        self.answers = list(answers)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    thread = threading.Thread(target=scripted.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield scripted
    scripted.server.shutdown()
    scripted.server.server_close()
    thread.join()


@pytest.fixture
def answer() -> type[Answer]:
    return Answer


@pytest.fixture
def waits() -> list[float]:
    """How long the client has waited, each time."""
    return []


class Awaited:
    """An `AsyncClient` with the face of `Client`: each call is awaited in the event loop of another thread."""

    def __init__(self, client: AsyncClient, portal: BlockingPortal) -> None:
        self._client, self._portal = client, portal

    def __getattr__(self, name: str) -> object:
        found = getattr(self._client, name)
        if inspect.isasyncgenfunction(found):
            return lambda *args, **kwargs: self._iterate(found(*args, **kwargs))
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *args, **kwargs: self._portal.call(partial(found, *args, **kwargs))

    def _iterate(self, items: AsyncIterator[object]) -> Iterator[object]:
        try:
            while True:
                try:
                    item = self._portal.call(anext, items)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._portal.call(items.aclose)


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """An event loop."""
    with start_blocking_portal() as opened:
        yield opened


@pytest.fixture(params=["blocking", "awaited"])
def connect(request: pytest.FixtureRequest, portal: BlockingPortal) -> Callable[..., AbstractContextManager[Client]]:
    """Returns what opens a client, of each kind."""

    @contextmanager
    def awaited(url: str, *, sleep: Callable[[float], None] = lambda _: None, **options: object) -> Iterator[Awaited]:
        async def asleep(seconds: float) -> None:
            sleep(seconds)

        made = AsyncClient(url, sleep=asleep, **options)
        yield Awaited(made, portal)
        portal.call(made.aclose)

    return Client if request.param == "blocking" else awaited


@pytest.fixture
def client(
    connect: Callable[..., AbstractContextManager[Client]], server: ScriptedServer, waits: list[float]
) -> Iterator[Client]:
    with connect(server.url, timeout_s=5, sleep=waits.append) as made:
        yield made
