"""What the documentation of the client shows is run, as it stands there."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import search_spaces.errors
import service.client

DOCS = Path(__file__).parents[3] / "docs" / "client.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture
def working(service) -> Iterator[None]:
    """Jobs that all end well."""
    ended = threading.Event()

    def work() -> None:
        told: set[str] = set()
        while not ended.wait(0.02):
            for view in service.parts.adaptations.page(owner="local", limit=100)[0]:
                if view.state == "RUNNING" and view.id not in told:
                    told.add(view.id)
                    service.job(view.id).succeed()
            service.parts.loop.wake()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_the_examples_run(service, working, small_zip, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pets.zip").write_bytes(small_zip)
    assert len(EXAMPLES) == 5
    for example in EXAMPLES:
        assert ADDRESS in example
        exec(compile(example.replace(ADDRESS, str(service.client.base_url)), str(DOCS), "exec"), {})
    printed = capsys.readouterr().out
    for part in ("SUCCEEDED", "weights.safetensors", "adaptation.succeeded", "100%", "404 not_found"):
        assert part in printed
    assert Path("out/report.md").is_file()


def test_the_errors_that_are_named_exist():
    named = re.findall(r"^\| `(\w+Error)`", DOCS.read_text(), re.MULTILINE)
    assert len(named) == 4
    assert set(named) <= {*vars(search_spaces.errors), *vars(service.client)}
