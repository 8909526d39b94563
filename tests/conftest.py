"""S3 servers, a real one and moto's, and a small network's bundle, for whoever asks for one."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.postgres import postgresql  # noqa: F401  # a fixture, for all tests

# Its log of every request would fill the pipe that nobody reads.
MOTO = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.WARNING)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
ACCESS_KEY, SECRET = "archprior-tests-key", "archprior-tests-secret"


@pytest.fixture(scope="session", autouse=True)
def node_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What jobs decode stays in the tests' own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARCHPRIOR_CACHE_DIR", str(tmp_path_factory.mktemp("node-cache")))
        yield


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

    def hang(self) -> None:
        """Let it take connections, and say nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # a signal takes its time

    def go_on(self) -> None:
        """Let one that hung say what it has to say."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

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


@pytest.fixture(scope="session")
def moto_port() -> Iterator[int]:
    """The port of moto's server, which runs until the tests end. It checks no signature."""
    with subprocess.Popen([sys.executable, "-c", MOTO], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in the environment that every server here accepts."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PUBLIC_ENDPOINT_URL", "ADDRESSING_STYLE", "SSE", "SSE_KMS_KEY_ID", "MAX_ATTEMPTS"):
        monkeypatch.delenv(f"ARCHPRIOR_S3_{name}", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def s3_environment(s3_endpoint: str, s3_credentials: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The endpoint of the server that all tests share, which the environment names, with credentials."""
    monkeypatch.setenv("ARCHPRIOR_S3_ENDPOINT_URL", s3_endpoint)
    return s3_endpoint


@pytest.fixture
def moto_path_environment(moto_port: int, s3_credentials: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The endpoint of moto's server, which the environment names, with buckets by path."""
    url = f"http://127.0.0.1:{moto_port}"
    monkeypatch.setenv("ARCHPRIOR_S3_ENDPOINT_URL", url)
    return url


@pytest.fixture
def moto_virtual_environment(moto_port: int, s3_credentials: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The endpoint of moto's server, which the environment names, with buckets as hosts."""
    resolve = socket.getaddrinfo

    def resolve_buckets(host: str, *options: object, **named: object) -> object:
        return resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *options, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_buckets)
    url = f"http://objects.localhost:{moto_port}"
    monkeypatch.setenv("ARCHPRIOR_S3_ENDPOINT_URL", url)
    monkeypatch.setenv("ARCHPRIOR_S3_ADDRESSING_STYLE", "virtual")
    return url


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


@pytest.fixture
def color_bundle(tmp_path: Path) -> Path:
    """A folder as an adaptation leaves it, of a network whose logits are a tenth of the mean of each channel."""
    # Only here: most tests ask for neither.
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
            helper.make_node("Mul", ["means", "tenth"], ["logits"]),
        ],
        "colors",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
            helper.make_tensor("tenth", TensorProto.FLOAT, [1], [0.1]),
        ],
    )
    folder = tmp_path / "bundle"
    folder.mkdir()
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx"
    )
    preprocessing = {"image_size": 8, "mode": "RGB", "resize": "bilinear antialias to a square"}
    preprocessing["input"] = "uint8 [N,3,H,W] 0..255"
    (folder / "preprocessing.json").write_text(json.dumps(preprocessing))
    (folder / "labels.json").write_text(json.dumps(["red", "green", "blue"]))
    return folder
