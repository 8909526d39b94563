"""An S3 server of the benchmark's own, which can be away for a while."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

KEY, SECRET = "archprior-bench", "archprior-secret"
START_TIMEOUT_S: Final = 20.0


class S3Server:
    """`rclone serve s3` over a folder; its address and its objects outlive it.

    Attributes:
        folder: Where the objects lie.
        environment: What a service needs to have its store there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        address = f"127.0.0.1:{self._port}"
        rclone = (str(Path(sys.executable).with_name("rclone")), "serve", "s3", str(folder), "--config", "/dev/null")
        self._command = [*rclone, "--addr", address, "--auth-key", f"{KEY},{SECRET}"]
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {
            "ARCHPRIOR_STORE_URL": "s3://recovery",
            "ARCHPRIOR_S3_ENDPOINT_URL": f"http://{address}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Return once it listens."""
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1.0).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise TimeoutError("the S3 server does not listen")

    def kill(self) -> None:
        """Return once nobody listens any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def away(self, seconds: float) -> None:
        """Kill it, and start it again after so long."""
        self.kill()
        time.sleep(seconds)
        self.start()


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Yield a running server whose objects go with it."""
    with tempfile.TemporaryDirectory(prefix="archprior-s3-") as objects:
        server = S3Server(Path(objects))
        try:
            server.start()
            yield server
        finally:
            server.kill()
