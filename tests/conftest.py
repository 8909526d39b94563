"""A real S3 server, for whoever asks for one."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ACCESS_KEY, SECRET = "archprior-tests-key", "archprior-tests-secret"


class S3Server:
    """`rclone serve s3` over a folder. It can be killed, and started again: its address and its objects stay.

    Attributes:
        url: Its endpoint, from the first start on.
    """

    url: str

    def __init__(self, folder: Path) -> None:
        self._folder, self._address = folder, "127.0.0.1:0"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Return once it listens."""
        command = [
            *(str(Path(sys.executable).with_name("rclone")), "serve", "s3", str(self._folder)),
            *("--config", "/dev/null", "--addr", self._address, "--auth-key", f"{ACCESS_KEY},{SECRET}"),
        ]
        process = self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        # The server says where it listens as soon as it does; it logs next to nothing after that.
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        found = next(filter(None, (re.search(r"\[(http://\S+?)/?\]", line) for line in lines)), None)
        assert found, f"rclone ended with {process.wait()} before it listened"
        self.url, self._address = found[1], urlsplit(found[1]).netloc

    def kill(self) -> None:
        """Return once nobody listens any more."""
        if self._process is not None:
            with self._process as process:
                process.kill()
            self._process = None


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that runs until the tests end."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    try:
        server.start()
        yield server.url
    finally:
        server.kill()


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in the environment that every server here accepts."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def s3_environment(s3_endpoint: str, s3_credentials: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The endpoint of the server that all tests share, which the environment names, with credentials."""
    monkeypatch.setenv("ARCHPRIOR_S3_ENDPOINT_URL", s3_endpoint)
    return s3_endpoint


@pytest.fixture
def s3_server(tmp_path: Path, s3_credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A running server of the test's own, which the environment names; clients do not wait between their tries."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0)
    folder = tmp_path / "s3"
    folder.mkdir()
    server = S3Server(folder)
    try:
        server.start()
        monkeypatch.setenv("ARCHPRIOR_S3_ENDPOINT_URL", server.url)
        yield server
    finally:
        server.kill()
