import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli.address import read_address
from service.cli.main import app
from workers.contracts.priors import MacroSpec, PriorCard

FAKE_SERVICE = Path(__file__).with_name("fake_service.py")


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch) -> None:
    monkeypatch.setattr("service.cli.adapt.POLL_S", 0.01)
    monkeypatch.setattr("service.cli.dataset_uploads.POLL_S", 0.01)
    monkeypatch.setattr("service.cli.meta_runs.following.POLL_S", 0.01)


@pytest.fixture
def run_cli() -> Callable[..., Result]:
    """Runs the command line in this process."""

    def run(*arguments: object) -> Result:
        return CliRunner(env={"NO_COLOR": "1"}).invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def last_json() -> Callable[[Result], object]:
    """Reads the last line of stdout as JSON."""
    return lambda result: json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def journal(tmp_path) -> Path:
    path = tmp_path / "journal"
    path.touch()
    return path


@pytest.fixture
def fake_command(journal) -> Callable[[Path], tuple[str, ...]]:
    """The command line of the fake service on a data folder."""
    return lambda data_dir: (sys.executable, str(FAKE_SERVICE), str(data_dir), str(journal), "works")


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The folder in which temporary files are made, so that what is left behind can be seen."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def running(tmp_path_factory) -> Iterator[str]:
    """The address of a fake service that runs while the tests do."""
    data_dir = tmp_path_factory.mktemp("running")
    command = (sys.executable, str(FAKE_SERVICE), str(data_dir), str(data_dir / "journal"), "works")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Uvicorn running" in line or process.poll() is not None:
                break
        url = None
        while url is None and process.poll() is None:  # the file follows that line at once
            url = read_address(data_dir)
        assert url is not None
        yield url
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert read_address(data_dir) is None


@pytest.fixture
def archive(tmp_path) -> Path:
    """A file that begins like a zip; the fake service looks no further."""
    path = tmp_path / "digits.zip"
    path.write_bytes(b"PK\x03\x04 and so on")
    return path


@pytest.fixture
def own_prior(tmp_path) -> Path:
    """A folder with a prior that no service knows."""
    folder = tmp_path / "own"
    folder.mkdir()
    card = PriorCard(
        id="own-v1", search_space="nas_bench_201", macro=MacroSpec(num_channels=16, num_cells=1),
        sha256=hashlib.sha256(b"own tensors").hexdigest(), num_bytes=11, mode="", resolutions=(32,), num_steps=1,
        inherits="", command="", config={}, data=(), curves={}, created_at="", versions={},
    )  # fmt: skip
    (folder / "prior.safetensors").write_bytes(b"own tensors")
    (folder / "card.json").write_text(card.model_dump_json())
    return folder
