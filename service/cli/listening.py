"""A server that says where it listens, in a file that whoever started it can read."""

import socket
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from service.cli.address import remove_address, write_address

SHUTDOWN_TIMEOUT_S: Final = 5
"""How long open requests may take once the service is told to stop."""


def run(app: FastAPI, host: str, port: int, data_dir: Path) -> None:
    """Serve an app until SIGTERM or SIGINT; while it listens, `service.json` in `data_dir` tells its address.

    Args:
        app: What to serve.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        data_dir: Of the service.
    """
    config = uvicorn.Config(app, host=host, port=port, timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S)
    server = _AnnouncingServer(config, data_dir)
    try:
        server.run()
    finally:
        if server.announced:
            remove_address(data_dir)


class _AnnouncingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, data_dir: Path) -> None:
        super().__init__(config)
        self.announced = False
        self._data_dir = data_dir

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            write_address(self._data_dir, _url(host, port))
            self.announced = True


def _url(host: str, port: int) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (what to reach, not to bind)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
