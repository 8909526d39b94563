"""A prior and its recipe shortened, with tiny domains, through the command line."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from benchmarks.domains.domain import write
from benchmarks.domains.written import learnable
from benchmarks.priors.learning import learn, load_domains
from benchmarks.priors.meta_compute import main
from tests.benchmarks.priors.tiny_domains import CONFIG, NAMES, tiny_domain
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning import evaluation


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(evaluation, "SIZES", (12, 12))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, object]]:
    for number, name in enumerate(NAMES):
        write(tiny_domain(name, number), tmp_path / "domains")
    domains = learnable(tmp_path / "domains", without="cifar10")
    config = MetaConfig.model_validate(CONFIG)
    learn(config, partial(load_domains, domains, max(config.resolutions)), tmp_path / "whole", "made")

    def run(*flags: str, code: int = 0) -> dict[str, object]:
        places = ["--domains", str(tmp_path / "domains"), "--work", str(tmp_path / "work"), "--tasks", "2"]
        given = ["--prior", str(tmp_path / "whole"), "--out", str(tmp_path / "results.json")]
        assert main([*places, *given, *flags]) == code
        if code:
            return {"error": capsys.readouterr().err}
        told = json.loads(capsys.readouterr().out)
        kept = json.loads((tmp_path / "results.json").read_text())
        assert kept.items() >= told.items()
        return kept

    return run


def test_a_shortened_recipe_is_judged_beside_the_whole_one(call: Callable[..., dict[str, object]]) -> None:
    found = call("--parts", "2", "5")

    assert (found["complete"], found["prior"]) == (True, "whole")
    curve = found["curve"]
    assert [point["num_steps"] for point in curve] == [2, 5, 10]
    assert {number: len(tasks) for number, tasks in found["tasks"].items()} == {"2": 6, "5": 6, "10": 6}
    assert [point["cpu_s"] is None for point in curve] == [False, False, True]
    assert curve[0]["minus_before"] is None
    for before, point in pairwise(curve):
        for steps, gain in point["minus_before"]["nll"].items():
            assert gain["mean"] == pytest.approx(point["nll"][steps]["mean"] - before["nll"][steps]["mean"], abs=2e-4)
    assert len({point["nll"]["0"]["mean"] for point in curve}) == 3


def test_what_was_learned_and_judged_is_not_done_again(call: Callable[..., dict[str, object]], tmp_path: Path) -> None:
    first = call("--parts", "2")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("prior.safetensors")}
    again = call("--parts", "2", "--tasks", "3")

    assert len(files) == 1
    assert all(path.stat().st_mtime_ns == before for path, before in files.items())
    assert again["curve"][0]["nll"] != first["curve"][0]["nll"]


@pytest.mark.parametrize("change", [{"parent": "another"}, {"num_steps": 9}])
def test_a_run_that_its_configuration_does_not_tell_whole_is_not_shortened(
    change: dict[str, object], call: Callable[..., dict[str, object]], tmp_path: Path
) -> None:
    path = tmp_path / "whole" / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert "from fresh weights to its end" in call("--parts", "2", code=1)["error"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--parts", "1"], "parts of 2 or more"),
        (["--tasks", "0"], "at least one task"),
        (["--prior", "absent"], "no prior there"),
        (["--without", ""], "learned from other data"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    flags: list[str], message: str, call: Callable[..., dict[str, object]], tmp_path: Path
) -> None:
    assert message in call(*flags, code=1)["error"]
    assert not (tmp_path / "results.json").exists()
