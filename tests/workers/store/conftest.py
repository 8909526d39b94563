"""A store of each kind, the S3 one on a real server."""

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.store.open import open_store
from workers.store.patient import PatientStore
from workers.store.protocol import Store

ACCESS_KEY, SECRET = "archprior-tests-key", "archprior-tests-secret"


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of `rclone serve s3`, which runs until the tests end."""
    folder = tmp_path_factory.mktemp("s3")
    command = [
        *(str(Path(sys.executable).with_name("rclone")), "serve", "s3", str(folder), "--config", "/dev/null"),
        *("--addr", "127.0.0.1:0", "--auth-key", f"{ACCESS_KEY},{SECRET}"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            # The server says where it listens as soon as it does; it logs next to nothing after that.
            assert server.stderr is not None
            lines = iter(server.stderr.readline, "")
            found = next(filter(None, (re.search(r"\[(http://\S+?)/?\]", line) for line in lines)), None)
            assert found, f"rclone ended with {server.wait()} before it listened"
            yield found[1]
        finally:
            server.terminate()


@pytest.fixture
def s3_environment(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The endpoint, with credentials that it accepts in the environment."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("ARCHPRIOR_S3_ENDPOINT_URL", s3_endpoint)
    return s3_endpoint


@pytest.fixture(params=["folder", "s3", "s3_prefix", "patient"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store."""
    if request.param == "patient":
        return PatientStore(open_store((tmp_path / "store").as_uri(), create=True), patience_s=5.0)
    if request.param == "folder":
        return open_store((tmp_path / "store").as_uri(), create=True)
    request.getfixturevalue("s3_environment")
    suffix = "/teams/red" if request.param == "s3_prefix" else ""
    return open_store(f"s3://bucket-{uuid.uuid4().hex[:12]}{suffix}", create=True)
