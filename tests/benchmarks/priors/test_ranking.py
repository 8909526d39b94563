"""How well a prior ranks, with tiny domains, through the command line."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.domains.domain import write
from benchmarks.priors.learning import learned_card, learned_prior
from benchmarks.priors.ranking import judge, judge_all, main, means
from service.cli.main import app
from tests.benchmarks.priors.tiny_domains import CONFIG, NAMES, tiny_domain
from workers.meta.trials.campaign import TRIALS
from workers.meta.trials.trial import Trial
from workers.priors.registry import bundled_folder

LEARNED = {"option_logits", "chooses", "ranks"}
CONFIGURED = {"num_tasks": 2, "num_archs": 3, "num_steps": 2, "batch_size": 8, "num_support": 24, "num_query": 12}


@pytest.fixture(autouse=True)
def threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("domains")
    for number, name in enumerate(NAMES):
        write(tiny_domain(name, number), folder)
    return folder


@pytest.fixture(scope="module")
def prior(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("priors")
    config = folder / "config.json"
    changes = {"num_steps": 2, "warmup_steps": 1, "joint_steps": 2, "resolutions": [8], "resolution_weights": [1.0]}
    config.write_text(json.dumps({**CONFIG, **changes, "trials": CONFIGURED}))
    data = [["--data", str(path), "--split", str(path.parent / "split.json")] for path in domains.glob("*/*.npz")]
    arguments = [argument for pair in data for argument in pair]
    done = CliRunner().invoke(
        app, ["meta-train", *arguments, "--config", str(config), "--out", str(folder / "tiny"), "--json"]
    )
    assert done.exit_code == 0, done.output
    return folder / "tiny"


@pytest.fixture
def call(domains: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, object]]:
    def run(prior: Path, *flags: str, code: int = 0) -> dict[str, object]:
        places = ["--prior", str(prior), "--domains", str(domains), "--work", str(tmp_path / "work")]
        assert main([*places, "--out", str(tmp_path / "results.json"), *flags]) == code
        told = capsys.readouterr()
        return {"error": told.err} if code else json.loads((tmp_path / "results.json").read_text())

    return run


def test_every_way_of_ranking_is_judged_on_every_domain(prior: Path, call: Callable[..., dict[str, object]]) -> None:
    found = call(prior, "--architectures", "6")
    # A domain on which all do equally well says nothing.
    assert found["by_domain"]
    assert set(found["by_domain"]) <= set(NAMES)
    for ways in (found["mean"], *found["by_domain"].values()):
        # On so few trials that are all right, the models may have learned nothing to rank by.
        assert {"params", "macs", "one_shot"} <= set(ways) <= {"params", "macs", "one_shot", *LEARNED}
        assert all(-1 <= way["tau"] <= 1 for way in ways.values())
        assert ways["params"]["tau_above_params"]["mean"] == 0


def test_the_ground_truth_is_made_once(prior: Path, call: Callable[..., dict[str, object]], tmp_path: Path) -> None:
    first = call(prior, "--architectures", "4")
    kept = {path: path.read_text() for path in (tmp_path / "work").rglob("*.jsonl")}
    again = call(prior, "--architectures", "5")
    assert len(kept) == len(NAMES)
    assert all(path.read_text().startswith(text) for path, text in kept.items())
    assert again["mean"] != first["mean"]


def test_nothing_is_ranked_that_the_priors_trials_tried(
    prior: Path, call: Callable[..., dict[str, object]], tmp_path: Path
) -> None:
    def architectures(*files: Path) -> set[str]:
        return {json.loads(line)["architecture"] for path in files for line in path.read_text().splitlines()}

    call(prior, "--architectures", "4")
    first = architectures(*(tmp_path / "work").rglob("*.jsonl"))
    copy = tmp_path / "knowing"
    shutil.copytree(prior, copy)
    trial = json.loads((prior / TRIALS).read_text().splitlines()[0])
    known = [{**trial, "task": 90 + number, "architecture": arch} for number, arch in enumerate(sorted(first))]
    with (copy / TRIALS).open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in known)
    shutil.rmtree(tmp_path / "work")
    call(copy, "--architectures", "4")
    second = architectures(*(tmp_path / "work").rglob("*.jsonl"))
    assert len(first) == len(second) == 4
    assert not second & (first | architectures(prior / TRIALS))


def test_a_prior_that_leaves_little_open_is_refused(domains: Path, call: Callable[..., dict[str, object]]) -> None:
    error = call(bundled_folder() / "nas_bench_201-v4", code=1)["error"]
    assert "too few architectures" in error
    assert "got 8; expected at least 20" in error


def test_a_folder_without_a_prior_is_refused(tmp_path: Path, call: Callable[..., dict[str, object]]) -> None:
    assert "no prior there" in call(tmp_path, code=1)["error"]


def test_perfect_and_reversed_scores() -> None:
    losses = [float(place) for place in range(40)]
    assert judge(losses, losses) == {"tau": 1.0, "precision_top_5_percent": 1.0, "regret": 0.0}
    reversed_ = judge([-loss for loss in losses], losses)
    assert reversed_ == {"tau": -1.0, "precision_top_5_percent": 0.0, "regret": 39.0}
    half = judge([0.0, *(-loss for loss in losses[1:])], [*losses[:-1], math.inf])
    assert half["precision_top_5_percent"] == 0.0


def test_a_diverged_trial_ranks_last_and_its_choice_gives_away_what_the_worst_other_does() -> None:
    losses = [1.0, 3.0, math.inf, 2.0]
    assert judge([1.0, 3.0, 4.0, 2.0], losses) == {"tau": 1.0, "precision_top_5_percent": 1.0, "regret": 0.0}
    chosen = judge([2.0, 3.0, 1.0, 4.0], losses)
    assert chosen["regret"] == 2.0
    assert math.isfinite(chosen["tau"])


def with_losses(trials: Sequence[Trial], *losses: float | None) -> list[Trial]:
    return [trial.model_copy(update={"loss": loss}) for trial, loss in zip(trials, losses, strict=False)]


@pytest.fixture
def tried(prior: Path, call: Callable[..., dict[str, object]], tmp_path: Path) -> list[Trial]:
    call(prior, "--architectures", "4")
    (file, *_) = sorted((tmp_path / "work").rglob("*.jsonl"))
    return [Trial.model_validate_json(line) for line in file.read_text().splitlines()]


def test_what_gives_all_the_same_score_is_left_out(prior: Path, tried: list[Trial]) -> None:
    card, learned = learned_card(prior), learned_prior(prior)
    uniform = replace(learned, arch_logits=torch.zeros_like(learned.arch_logits))
    diverged = with_losses(tried, 1.0, None, 3.0, 2.0)

    ranks, does_not = judge_all(diverged, card, learned), judge_all(diverged, card, uniform)

    assert ranks.keys() - does_not.keys() == {"option_logits"}
    assert all(math.isfinite(value) for way in does_not.values() for value in way.values())


def test_a_task_whose_trials_all_diverged_judges_nothing(prior: Path, tried: list[Trial]) -> None:
    assert judge_all(with_losses(tried, None, None, None, None), learned_card(prior), learned_prior(prior)) == {}


def test_ways_that_do_not_rank_on_every_task_have_no_mean() -> None:
    way = {"tau": 0.5, "precision_top_5_percent": 1.0, "regret": 0.0}

    found = means([{"params": way, "macs": way}, {"macs": way}])

    assert found.keys() == {"macs"}
    assert found["macs"]["tau_above_params"]["mean"] == 0.25


def test_results_hold_no_number_that_is_none(
    prior: Path, domains: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, out = tmp_path / "work", tmp_path / "results.json"
    command = ["--prior", str(prior), "--domains", str(domains), "--work", str(work), "--out", str(out)]
    assert main([*command, "--architectures", "4"]) == 0
    for file in work.rglob("*.jsonl"):  # trials that diverged, in a file that it resumes from
        trials = [Trial.model_validate_json(line) for line in file.read_text().splitlines()]
        lines = [trial.model_dump_json() for trial in with_losses(trials, None, 1.0, None, 2.0)]
        file.write_text("\n".join(lines) + "\n")
    capsys.readouterr()

    assert main([*command, "--architectures", "4"]) == 0

    for text in (out.read_text(), capsys.readouterr().out):
        assert "NaN" not in text
        assert "Infinity" not in text


def test_a_prior_with_findings_ranks_by_them(
    prior: Path, tmp_path: Path, call: Callable[..., dict[str, object]]
) -> None:
    taught = tmp_path / "taught"
    shutil.copytree(prior, taught)
    card = json.loads((taught / "card.json").read_text())
    for model in (card["trials"]["chooses"], card["trials"]["ranks"]):
        model["traits"]["longest"] = -1.0
    (taught / "card.json").write_text(json.dumps(card))
    assert {"chooses", "ranks"} <= set(call(taught, "--architectures", "6")["mean"])
