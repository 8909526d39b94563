"""Few steps from a tiny prior and from fresh weights, through the command line."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.domains.domain import write
from benchmarks.domains.written import learnable
from benchmarks.priors import few_steps
from benchmarks.priors.learning import learn, load_domains
from tests.benchmarks.priors.tiny_domains import CONFIG, NAMES, tiny_domain
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.evaluation import QueryScores
from workers.meta.learning.slot import SlotWork
from workers.tasks.sources import write_zip

Call = Callable[..., dict[str, object]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    monkeypatch.setattr(few_steps, "SIZES", (24, 12))
    monkeypatch.setattr(few_steps, "SIDE", 8)
    for number, name in enumerate(NAMES):
        write(tiny_domain(name, number), tmp_path / "domains")
    domains = learnable(tmp_path / "domains", without="cifar10")
    config = MetaConfig.model_validate(CONFIG)
    learn(config, partial(load_domains, domains, max(config.resolutions)), tmp_path / "prior", "made")
    (tmp_path / "data").mkdir()
    for seed, name in enumerate(("dots", "dashes")):
        write_images(tmp_path / "data" / f"{name}.zip", seed)
    before = torch.get_num_threads()

    def run(*flags: str, code: int = 0) -> dict[str, object]:
        given = {"--prior": "prior", "--data": "data", "--out": "results.json"}
        places = [part for flag, name in given.items() for part in (flag, str(tmp_path / name))]
        assert few_steps.main([*places, "--tasks", "2", "--steps", "0", "3", *flags]) == code
        told = capsys.readouterr()
        if code:
            return {"error": told.err}
        kept = json.loads((tmp_path / "results.json").read_text())
        assert kept.items() >= json.loads(told.out).items()
        return kept

    yield run
    torch.set_num_threads(before)


def write_images(path: Path, seed: int) -> None:
    """Three classes of twelve images of noise around a level, which overlap."""
    generator = np.random.default_rng(seed)
    y = np.arange(36) % 3
    levels = 40 * y + generator.integers(0, 80, 36)
    x = (generator.integers(0, 40, (36, 8, 8, 3)) + levels[:, None, None, None]).astype(np.uint8)
    packed = path.with_suffix(".npz")
    np.savez(packed, x=x, y=y)
    write_zip(packed, path)
    packed.unlink()


def test_both_arms_are_judged_on_each_dataset_at_each_step(call: Call) -> None:
    found = call()

    assert found["complete"]
    assert found["curves"].keys() == {"dots", "dashes"}
    for arms in found["curves"].values():
        assert arms.keys() == {"prior", "fresh"}
        for curve in arms.values():
            assert curve["accuracy"].keys() == {"0", "3"}
        assert arms["prior"]["accuracy"] != arms["fresh"]["accuracy"]
    assert found["curves"]["dots"] != found["curves"]["dashes"]


def test_a_rate_is_chosen_on_a_split_that_is_not_judged(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[int, list[float]] = {}

    def scores(work: SlotWork, held_out: object, prior: object, number: int, **_: object) -> dict[int, QueryScores]:
        rate = work.config.inner_lr
        asked.setdefault(number, []).append(rate)
        good = QueryScores(accuracy=0.9 - abs(rate - 0.03), nll=1.0, calibration_error=0.0)
        return {0: good, 3: good}

    monkeypatch.setattr(few_steps, "query_scores", scores)

    found = call("--only", "dots")

    assert {arm["rate"] for arm in found["curves"]["dots"].values()} == {0.03}
    (tuned, *judged) = sorted(asked, reverse=True)
    assert (asked[tuned], judged) == ([*few_steps.RATES, *few_steps.RATES], [1, 0])
    assert {rate for number in judged for rate in asked[number]} == {0.03}


def test_a_part_of_the_datasets_is_not_complete(call: Call) -> None:
    assert not call("--only", "dots")["complete"]


def test_the_same_command_finds_the_same(call: Call) -> None:
    first, again = call("--only", "dots"), call("--only", "dots")

    assert first["curves"] == again["curves"]
    assert first["curves"].keys() == {"dots"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tasks", "0"], "at least one task"),
        (["--steps", "-1"], "steps of 0 or more"),
        (["--only", "gone"], "gone"),
        (["--prior", "absent"], "no prior there"),
        (["--data", "absent"], "benchmarks.suites.data"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(call: Call, flags: list[str], message: str, tmp_path: Path) -> None:
    assert message in call(*flags, code=1)["error"]
    assert not (tmp_path / "results.json").exists()
