import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import pytest

from service.data_dir import LOCK, claim

# The command as it is, around an application that answers one path and needs no Ray.
ENTRY = """
import signal, sys, types
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what runs the tests may have made them deaf to it: nohup does
from fastapi import FastAPI

def create_app(settings):
    app = FastAPI()

    @app.get("/settings")
    async def show() -> dict[str, str]:
        return {"data_dir": str(settings.data_dir)}

    app.state.parts = types.SimpleNamespace(
        readiness=lambda: types.SimpleNamespace(ok=True),
        cluster=types.SimpleNamespace(dashboard_url="http://ray"),
        hub=types.SimpleNamespace(close=lambda: None),
    )
    return app

sys.modules["service.app"] = types.SimpleNamespace(create_app=create_app)
from service.cli.main import app
app(["serve", *sys.argv[1:]])
"""


@contextmanager
def serving(*arguments):
    command = [sys.executable, "-c", ENTRY, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stderr=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process, text):
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"{text!r} never came")


def address(data_dir):
    while True:  # written at once after the line that says so
        if (data_dir / "service.json").exists():
            return json.loads((data_dir / "service.json").read_text())


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_says_where_it_listens_and_ends_cleanly(tmp_path, signum):
    data_dir = tmp_path / "data"
    with serving("--port", 0, "--data-dir", data_dir) as process:
        until(process, "Uvicorn running")
        told = address(data_dir)
        assert told["pid"] == process.pid
        assert httpx.get(f"{told['url']}/settings", trust_env=False).json() == {"data_dir": str(data_dir)}
        process.send_signal(signum)
        _, rest = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in rest
    assert [path.name for path in data_dir.iterdir()] == [LOCK]


def test_it_ends_with_whoever_holds_its_stdin(tmp_path):
    with serving("--port", 0, "--data-dir", tmp_path, "--end-with-stdin") as process:
        until(process, "Uvicorn running")
        process.stdin.close()
        assert process.wait(30) == 0


def test_it_says_as_json_that_it_can_take_work(tmp_path):
    with serving("--port", 0, "--data-dir", tmp_path, "--json") as process:
        told = json.loads(process.stdout.readline())
        assert httpx.get(f"{told['url']}/settings", trust_env=False).is_success
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
    assert rest == ""
    assert (told["data_dir"], told["pid"], told["dashboard"]) == (str(tmp_path), process.pid, "http://ray")


def test_a_data_folder_in_use_is_told_in_one_line(tmp_path):
    with claim(tmp_path), serving("--port", 0, "--data-dir", tmp_path) as process:
        _, rest = process.communicate(timeout=30)
    assert process.returncode == 1
    assert rest.startswith(f"error: the data folder is in use by process {os.getpid()}")
    assert rest.count("\n") == 1


def test_a_port_in_use_is_told(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with serving("--port", taken.getsockname()[1], "--data-dir", tmp_path) as process:
            _, rest = process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    assert "address already in use" in rest
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("arguments", "variables", "text"),
    [
        (("--host", "0.0.0.0"), {}, "loopback only"),
        (("--port", "99999"), {}, "65535"),
        ((), {"ARCHPRIOR_MAX_ATTEMPTS": "many"}, "ARCHPRIOR_MAX_ATTEMPTS: Input should be a valid integer"),
    ],
)
def test_settings_that_cannot_be_are_refused(run_cli, monkeypatch, tmp_path, arguments, variables, text):
    monkeypatch.setitem(sys.modules, "service.app", SimpleNamespace(create_app=None))
    monkeypatch.setattr("service.cli.serve.exit_on_signals", lambda: None)  # these are the whole process's
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = run_cli("serve", "--data-dir", tmp_path, *arguments)
    assert result.exit_code == 2
    assert text in result.stderr
    assert list(tmp_path.iterdir()) == []
