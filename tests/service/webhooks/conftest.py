"""A real receiver of webhooks, on loopback."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

WAIT_S = 20.0


class Receiver:
    """Answers as it is told, and remembers what it got: paths, headers and bodies."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.answer = b"thanks"
        self.headers: dict[str, str] = {}
        self.released = threading.Event()
        self.released.set()
        self._came = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with outer._came:
                    outer.got.append((self.path, dict(self.headers), body))
                    status = outer.statuses.pop(0) if outer.statuses else 204
                    outer._came.notify_all()
                outer.released.wait(WAIT_S)
                self.send_response(status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if status != 204:
                    self.wfile.write(outer.answer)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # a sender who hangs up early

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?of=ann"

    def wait(self, number: int) -> None:
        """Until so many messages have come."""
        deadline = time.monotonic() + WAIT_S
        with self._came:
            while len(self.got) < number:
                assert self._came.wait(deadline - time.monotonic()), f"{len(self.got)} of {number} came"


@pytest.fixture
def new_receiver() -> Iterator[Callable[[], Receiver]]:
    """Returns a function that starts one."""
    made: list[tuple[Receiver, threading.Thread]] = []

    def start() -> Receiver:
        receiver = Receiver()
        thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        made.append((receiver, thread))
        return receiver

    yield start
    for receiver, thread in made:
        receiver.released.set()
        receiver.server.shutdown()
        thread.join(WAIT_S)
        receiver.server.server_close()


@pytest.fixture
def receiver(new_receiver: Callable[[], Receiver]) -> Receiver:
    return new_receiver()
