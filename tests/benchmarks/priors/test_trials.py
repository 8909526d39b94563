"""What parts of what trials teach are worth: made-up trials with known causes, through the command line."""

import json
import random
from pathlib import Path

import pytest
import torch

from benchmarks.priors.trials import main
from search_spaces.registry import SPACES
from workers.contracts.loss_model import ENTRIES, TrialConfig
from workers.contracts.meta_config import MetaConfig
from workers.meta.trials.campaign import TRIALS, trial_line
from workers.meta.trials.findings import find
from workers.meta.trials.trial import Trial
from workers.priors.loss_model import draw_valid
from workers.priors.registry import CARD, bundled_cards

SPACE = SPACES["nas_bench_201"]
CONFIG = MetaConfig(trials=TrialConfig(num_tasks=12))


def trials_where_depth_is_good_in_color(num_tasks: int = 12) -> list[Trial]:
    archs = draw_valid(SPACE, 8 * num_tasks, torch.Generator().manual_seed(0))
    noise = random.Random(0)
    made = []
    for place, arch in enumerate(archs):
        task = place // 8
        color = float(task % 2)
        description = {**dict.fromkeys(ENTRIES, 0.0), "color": color}
        error = 0.5 - 0.1 * SPACE.depth(arch).longest * (2 * color - 1) + 0.01 * noise.gauss(0, 1)
        made.append(
            Trial(
                task=task, number=place % 8, architecture=SPACE.format(arch), dataset=0,
                description=description, num_steps=1, loss=error, accuracy=1 - error,
            )
        )  # fmt: skip
    return made


@pytest.fixture
def prior(tmp_path: Path) -> Path:
    trials = trials_where_depth_is_good_in_color()
    card = bundled_cards()["nas_bench_201-v4"]
    changes = {"id": "tried", "trials": find(trials, CONFIG), "config": CONFIG.model_dump(mode="json")}
    (tmp_path / CARD).write_text(card.model_copy(update=changes).model_dump_json())
    (tmp_path / TRIALS).write_text("".join(map(trial_line, trials)))
    return tmp_path


def test_a_part_that_trials_show_is_worth_something_and_others_nothing(prior: Path, tmp_path: Path) -> None:
    assert main(["--prior", str(prior), "--out", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["prior"], found["tasks"], found["trials"]) == ("tried", 12, 96)
    ways = found["ways"]
    assert ways["whole"]["tau"] > 0.5
    assert ways["without look"]["tau"] < 0.3
    assert ways["without look"]["minus_whole"]["accuracy"]["high"] < 0
    assert ways["without look"]["nll"] > ways["whole"]["nll"]
    assert ways["without length"]["minus_whole"]["tau"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert ways["without everything"]["tau"] == 0.0
    assert ways["without everything"]["accuracy"] < ways["whole"]["accuracy"]


def test_trials_with_fresh_weights_have_no_mode_to_compare_with(prior: Path, tmp_path: Path) -> None:
    card = json.loads((prior / CARD).read_text())
    card["config"]["trials"]["weights"] = card["trials"]["config"]["weights"] = "fresh"
    (prior / CARD).write_text(json.dumps(card))
    assert main(["--prior", str(prior), "--out", str(tmp_path / "out.json")]) == 0
    assert "without everything" not in json.loads((tmp_path / "out.json").read_text())["ways"]


def test_too_few_trials_are_refused(prior: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (prior / TRIALS).read_text().splitlines(keepends=True)
    (prior / TRIALS).write_text("".join(lines[:16]))
    assert main(["--prior", str(prior)]) == 1
    assert "got '2 tasks'" in capsys.readouterr().err
    (prior / CARD).unlink()
    assert main(["--prior", str(prior)]) == 1
    assert "no prior there" in capsys.readouterr().err
