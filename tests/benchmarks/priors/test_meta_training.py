"""Variants of a meta-training compared, with tiny domains and priors, through the command line."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch

from benchmarks.domains.domain import write
from benchmarks.priors.meta_training import SPEC, main, summary
from benchmarks.priors.meta_training_judge import TaskScores
from benchmarks.priors.meta_training_spec import read_spec
from search_spaces.errors import InvalidOptionError
from tests.benchmarks.priors.tiny_domains import CONFIG, NAMES, tiny_domain
from workers.meta.learning import evaluation
from workers.meta.learning.evaluation import CURVE_STEPS, QueryScores

PLACES_OF_SPEC = {
    "base": "base.json",
    "cell": "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|",
}
VARIANTS: list[dict[str, object]] = [
    {"name": "base"},
    {"name": "more", "learn": {"joint_steps": 10}},
    {"name": "fair", "learn": {"path_sampling": "fair"}},
    {"name": "slow", "judge": {"inner_lr": 0.001}},
]


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
    (tmp_path / "base.json").write_text(json.dumps(CONFIG))
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({**PLACES_OF_SPEC, "changes": {"lr": 0.05}, "variants": VARIANTS}))

    def run(*flags: str, code: int = 0) -> dict[str, object]:
        places = ["--domains", str(tmp_path / "domains"), "--spec", str(spec), "--work", str(tmp_path / "work")]
        assert main([*places, "--out", str(tmp_path / "results.json"), "--tasks", "2", *flags]) == code
        if code:
            return {"error": capsys.readouterr().err}
        told = json.loads(capsys.readouterr().out)
        kept = json.loads((tmp_path / "results.json").read_text())
        assert kept.items() >= told.items()
        return kept

    return run


BUDGET = ("--budget-cpu-s", "0.2", "--warm-up-cpu-s", "0.1")


def test_variants_learn_as_they_say_and_are_judged_on_the_same_tasks(call: Callable[..., dict[str, object]]) -> None:
    found = call(*BUDGET)

    assert found["complete"] is True
    assert found["base"]["lr"] == 0.05
    variants = found["variants"]
    assert list(variants) == ["base", "more", "fair", "slow"]
    assert {name for name, told in variants.items() if told["shares_warm_up"]} == {"base", "more", "slow"}
    assert all(difference["mean"] == 0 for difference in variants["base"]["at_mode"]["minus_base"]["nll"].values())
    # The same prior, adapted by another rate.
    assert variants["slow"]["num_steps"] == variants["base"]["num_steps"]
    for place in ("at_mode", "at_cell"):
        slow, base = variants["slow"][place]["nll"], variants["base"][place]["nll"]
        assert slow["0"] == base["0"]
        assert slow["16"] != base["16"]
    assert variants["base"]["at_cell"]["nll"] != variants["base"]["at_mode"]["nll"]
    for name, told in variants.items():
        assert set(told["at_cell"]["accuracy_by_domain"]) == set(NAMES)
        assert [(task["domain"], task["number"]) for task in found["tasks"][name]] == [
            (task["domain"], task["number"]) for task in found["tasks"]["base"]
        ]


def test_what_was_learned_and_judged_is_not_done_again(call: Callable[..., dict[str, object]], tmp_path: Path) -> None:
    first = call(*BUDGET, "--only", "more")
    assert list(first["variants"]) == ["base", "more"]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("prior.safetensors")}
    again = call(*BUDGET, "--tasks", "3")

    assert len(files) == 2
    assert all(path.stat().st_mtime_ns == before for path, before in files.items())
    kept = [task for task in again["tasks"]["more"] if task["number"] < 2]
    assert kept == first["tasks"]["more"]
    # Judged in two goes or in one, in the same order: what is paired is the same task.
    places = [[(task["domain"], task["number"]) for task in again["tasks"][name]] for name in ("more", "fair")]
    assert places[0] == places[1]
    # One for each way to learn: judged otherwise, a prior stays the same.
    assert len(list((tmp_path / "work").rglob("prior.safetensors"))) == 3


def test_without_a_shared_warm_up_every_variant_learns_from_the_start(call: Callable[..., dict[str, object]]) -> None:
    found = call("--budget-cpu-s", "0.2", "--only", "more")

    assert not any(told["shares_warm_up"] for told in found["variants"].values())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only", "best"], "base, fair, more, slow"),
        (["--tasks", "0"], "at least one task"),
        (["--budget-cpu-s", "0"], "more than no time"),
        (["--spec", "absent.json"], "absent.json cannot be read"),
        (["--domains", "absent"], "make domains"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    flags: list[str], message: str, call: Callable[..., dict[str, object]], tmp_path: Path
) -> None:
    assert message in call(*flags, code=1)["error"]
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([], "one or more"),
        ([{"name": "a"}, {"name": "a"}], "its own name"),
        ([{"name": "a", "learn": {"lr": -1}}], "the configuration of a"),
        ([{"learn": {}}], "cannot be read"),
    ],
)
def test_a_file_that_names_no_variants_is_refused(
    variants: list[dict[str, object]], message: str, tmp_path: Path
) -> None:
    (tmp_path / "base.json").write_text("{}")
    (tmp_path / "spec.json").write_text(json.dumps({**PLACES_OF_SPEC, "variants": variants}))

    with pytest.raises(InvalidOptionError, match=message):
        read_spec(tmp_path / "spec.json")


@pytest.mark.parametrize("name", ["meta_training", "meta_training_from_start"])
def test_the_committed_variants_are_configurations(name: str) -> None:
    assert read_spec(SPEC.with_name(f"{name}.json")).reference == "base"


def test_differences_are_paired_by_task() -> None:
    def scored(accuracies: Mapping[str, float]) -> list[TaskScores]:
        found = []
        for domain, value in accuracies.items():
            scores = {s: QueryScores(accuracy=value, nll=1 - value, calibration_error=0.1) for s in CURVE_STEPS}
            worse = {s: QueryScores(accuracy=0.0, nll=9.0, calibration_error=0.1) for s in CURVE_STEPS}
            found.append(TaskScores(domain=domain, number=0, at_mode=scores, at_cell=worse))
        return found

    # Tasks differ much, priors by the same in each task: paired, the difference has no spread.
    summed = summary(scored({"easy": 0.95, "hard": 0.15}), scored({"easy": 0.9, "hard": 0.1}))

    found = summed["at_mode"]
    assert summed["at_cell"]["minus_base"]["accuracy"][4]["mean"] == 0
    assert found["minus_base"]["accuracy"][4] == {"mean": 0.05, "low": 0.05, "high": 0.05}
    assert found["minus_base"]["nll"][0]["high"] == -0.05
    assert found["accuracy_by_domain"]["hard"][16] == 0.15
