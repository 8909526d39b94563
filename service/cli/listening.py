"""A server that says where it listens, in a file that whoever started it can read."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from service.cli.address import remove_address, write_address

SHUTDOWN_TIMEOUT_S: Final = 5
"""How long open requests may take once the service is told to stop."""


def run(
    app: FastAPI,
    host: str,
    port: int,
    data_dir: Path,
    on_listening: Callable[[str], None] | None = None,
    on_stopping: Callable[[], None] | None = None,
) -> None:
    """Serve an app until SIGTERM or SIGINT; while it listens, `service.json` in `data_dir` tells its address.

    Args:
        app: What to serve.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        data_dir: Of the service.
        on_listening: Told the address; must return at once.
        on_stopping: Called once the server is told to stop, before it waits for what it is answering: ends what would
            never end by itself. Must return at once.
    """
    # Without a line for every request: whoever follows an adaptation asks each second, which would bury all else.
    config = uvicorn.Config(app, host=host, port=port, timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S, access_log=False)
    server = AnnouncingServer(config, data_dir, on_listening, on_stopping)
    try:
        server.run()
    finally:
        if server.announced:
            remove_address(data_dir)


class AnnouncingServer(uvicorn.Server):
    """A server that writes its address once it listens, and says when it is told to stop. Arguments as `run`'s."""

    def __init__(
        self,
        config: uvicorn.Config,
        data_dir: Path,
        on_listening: Callable[[str], None] | None,
        on_stopping: Callable[[], None] | None,
    ) -> None:
        super().__init__(config)
        self.announced = False
        self._data_dir, self._on_listening, self._on_stopping = data_dir, on_listening, on_stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            url = _url(host, port)
            write_address(self._data_dir, url)
            self.announced = True
            if self._on_listening is not None:
                self._on_listening(url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.started and self._on_stopping is not None:
            self._on_stopping()
        await super().shutdown(sockets)


def _url(host: str, port: int) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (what to reach, not to bind)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
