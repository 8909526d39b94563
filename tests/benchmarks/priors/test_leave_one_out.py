"""Leave one domain out, with tiny domains and priors, through the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.domains.domain import write
from benchmarks.domains.written import learnable
from benchmarks.priors.learning import lengthened
from benchmarks.priors.leave_one_out import compare, main
from benchmarks.priors.leave_one_out_arms import load_unseen
from benchmarks.priors.meta_training_judge import Judge
from benchmarks.priors.ranking import workshop
from tests.benchmarks.priors.tiny_domains import CONFIG, NAMES, tiny_domain
from workers.contracts.loss_model import TrialConfig
from workers.contracts.meta_config import MetaConfig
from workers.priors.model import fresh_prior, full_macro


@pytest.fixture(autouse=True)
def threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, object]]:
    for number, name in enumerate(NAMES):
        write(tiny_domain(name, number), tmp_path / "domains")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))

    def run(*flags: str, code: int = 0) -> dict[str, object]:
        places = ["--domains", str(tmp_path / "domains"), "--config", str(config), "--work", str(tmp_path / "work")]
        assert main([*places, "--out", str(tmp_path / "results.json"), *flags]) == code
        if code:
            return {"error": capsys.readouterr().err}
        told = json.loads(capsys.readouterr().out)
        kept = json.loads((tmp_path / "results.json").read_text())
        assert kept.items() >= told.items()
        return kept

    return run


def test_each_domain_is_left_out_once_and_judged_on_classes_that_no_prior_met(
    call: Callable[..., dict[str, object]],
) -> None:
    found = call("--num-steps", "4", "--tasks", "2")

    assert found["complete"] is True
    assert found["num_steps"] == 4
    learned = {arm: set(told["classes_by_dataset"]) for arm, told in found["priors"].items()}
    files = {name: f"{name}.npz" for name in NAMES}
    assert learned["all"] == set(files.values())
    for name in NAMES:
        assert learned[f"without-{name}"] == set(files.values()) - {files[name]}
        of_domain = found["domains"][name]
        assert of_domain["num_classes"] == 2
        assert set(of_domain["accuracy"]) == {"all", "without", "none"}
        for kind in ("all_minus_without", "without_minus_none"):
            one, _, other = kind.split("_")
            for steps, difference in of_domain[kind].items():
                means = [of_domain["accuracy"][prior][steps]["mean"] for prior in (one, other)]
                assert difference["mean"] == pytest.approx(means[0] - means[1], abs=2e-4)
                assert difference["low"] <= difference["mean"] <= difference["high"]
    scores = [found["scores"][name] for name in NAMES]
    assert all(len(tasks) == 2 for by_prior in scores for tasks in by_prior.values())


def test_what_was_learned_and_judged_is_not_done_again(call: Callable[..., dict[str, object]], tmp_path: Path) -> None:
    first = call("--num-steps", "4", "--tasks", "1")
    priors = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("prior.safetensors")}
    again = call("--num-steps", "4", "--tasks", "2")
    other = call("--num-steps", "5", "--tasks", "1")

    assert len(priors) == 4
    assert all(path.stat().st_mtime_ns == before for path, before in priors.items())
    for name in NAMES:
        for prior, tasks in first["scores"][name].items():
            assert again["scores"][name][prior][:1] == tasks
    assert other["num_steps"] == 5
    assert len(list((tmp_path / "work").iterdir())) == 2


def test_a_budget_is_turned_into_steps_once(call: Callable[..., dict[str, object]], tmp_path: Path) -> None:
    flags = ("--budget-cpu-s", "0.2", "--tasks", "1", "--domain", "colors", "--domain", "shades")
    found = call(*flags)

    assert found["budget_cpu_s"] == 0.2
    (plan,) = (tmp_path / "work").rglob("plan.json")
    assert json.loads(plan.read_text()) == {"num_steps": found["num_steps"]}
    assert set(found["domains"]) == {"colors", "shades"}
    assert call(*flags)["num_steps"] == found["num_steps"]


def test_classes_of_a_mark_are_left_out_of_every_prior(call: Callable[..., dict[str, object]]) -> None:
    found = call("--num-steps", "2", "--tasks", "1", "--without", "cifar10")

    assert found["priors"]["all"]["classes_by_dataset"] == {"colors.npz": 2, "stripes.npz": 3, "shades.npz": 3}
    assert found["without_mark"] == "cifar10"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--domain", "colors"], "two or more"),
        (["--domain", "sounds"], "colors, shades, stripes"),
        (["--without", "cifar100"], "no domain has classes of this mark"),
        (["--tasks", "0"], "at least one task"),
        (["--num-steps", "-1"], "at least one step"),
        (["--config", "absent.json"], "absent.json cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    flags: list[str], message: str, call: Callable[..., dict[str, object]], tmp_path: Path
) -> None:
    assert message in call("--num-steps", "2", *flags, code=1)["error"]
    assert not (tmp_path / "results.json").exists()


def test_a_longer_run_keeps_the_shares_of_its_parts() -> None:
    config = lengthened(MetaConfig.model_validate(CONFIG), 1000)

    assert (config.warmup_steps, config.joint_steps, config.num_steps) == (500, 800, 1000)
    assert config.lr_rise_steps == 200


def test_differences_are_paired_by_task() -> None:
    # Tasks differ much, priors by the same in each task: paired, the difference has no spread.
    easy, hard = [0.9, 0.9, 0.9], [0.1, 0.1, 0.1]
    better = [[value + 0.05 for value in task] for task in (easy, hard)]

    found = compare({"all": better, "without": [easy, hard], "none": [hard, hard]})

    assert found["all_minus_without"][0] == {"mean": 0.05, "low": 0.05, "high": 0.05}
    assert found["without_minus_none"][4]["low"] == 0.0


def test_priors_are_judged_on_classes_that_none_of_them_met(tmp_path: Path) -> None:
    write(tiny_domain("colors", 0), tmp_path)
    (domain,) = learnable(tmp_path)
    config = MetaConfig.model_validate(CONFIG)
    prior = fresh_prior(
        config.search_space,
        full_macro(config.macro, num_classes=2, image_size=8),
        torch.Generator().manual_seed(0),
        weight_scale=0.1,
    )
    assert load_unseen(domain, 8).class_names == domain.split.meta_test
    judged = Judge([domain], 1, config)._held_out("colors")
    ranked = workshop(config, TrialConfig(), domain, prior).distribution
    for held_out in (judged, ranked):
        assert held_out.classes.class_names == domain.split.meta_validation
