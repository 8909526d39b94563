"""`archprior recommend`: an architecture to train from scratch, by a prior's trials and by new ones."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from service.cli.main import app

SPACE = SPACES["nas_bench_201"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of a color each."""
    root = tmp_path_factory.mktemp("colors")
    generator = np.random.default_rng(0)
    for name, color in (("red", 0), ("green", 1), ("blue", 2)):
        (root / name).mkdir()
        for number in range(20):
            pixels = generator.integers(0, 80, (16, 16, 3), dtype=np.uint8)
            pixels[..., color] += 120
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def learned(folder: Path, out: Path, weights: str) -> Path:
    trials = {"num_tasks": 2, "num_archs": 3, "num_steps": 2, "batch_size": 8, "weights": weights, "length": "steps"}
    config = {
        "num_steps": 1, "joint_steps": 1, "macro": {"num_channels": 4, "num_cells": 1}, "resolutions": [8],
        "min_ways": 2, "max_ways": 3, "trials": trials,
    }  # fmt: skip
    path = out.with_suffix(".json")
    path.write_text(json.dumps(config))
    done = CliRunner().invoke(app, ["meta-train", "--data", str(folder), "--config", str(path), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def prior(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learned(folder, tmp_path_factory.mktemp("priors") / "fresh", "fresh")


def recommended(*arguments: object) -> dict[str, object]:
    done = CliRunner().invoke(app, ["recommend", *map(str, arguments), "--threads", "1", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_cell_is_recommended_within_the_limits_after_trials(folder: Path, prior: Path) -> None:
    assert "`archprior recommend`" in json.loads((prior / "card.json").read_text())["inherits"]
    free = recommended(folder, "--prior", prior, "--seconds", 5)
    assert SPACE.is_valid(SPACE.parse(free["architecture"]))
    assert free["architecture"] in {one["architecture"] for one in free["tried"]}
    cheapest = SPACE.minimum_cost(Macro(num_channels=4, num_cells=1, num_classes=3, image_size=8))
    limit = cheapest.macs * 3 // 2
    assert recommended(folder, "--prior", prior, "--seconds", 5, "--max-macs", limit)["macs"] <= limit


def test_people_see_the_cell_and_what_was_tried(folder: Path, prior: Path) -> None:
    arguments = ["recommend", str(folder), "--prior", str(prior), "--seconds", "3", "--threads", "1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "held-out accuracy" in done.stdout
    assert "╭─ cell" in done.stdout


def test_a_limit_below_the_smallest_is_refused(folder: Path, prior: Path) -> None:
    done = CliRunner().invoke(app, ["recommend", str(folder), "--prior", str(prior), "--max-macs", "10"])
    assert done.exit_code == 1
    assert "no architecture of nas_bench_201 is that small" in done.stderr


def test_a_prior_that_knows_inherited_weights_only_is_refused(folder: Path, tmp_path: Path) -> None:
    inherited = learned(folder, tmp_path / "inherited", "inherited")
    assert "recommend" not in json.loads((inherited / "card.json").read_text())["inherits"]
    done = CliRunner().invoke(app, ["recommend", str(folder), "--prior", str(inherited)])
    assert done.exit_code == 2
    assert "foretells nothing of training from scratch" in done.stderr


def test_without_a_prior_named_the_bundled_one_foretells(folder: Path) -> None:
    found = recommended(folder, "--seconds", 1)
    assert found["prior"] == "nas_bench_201-deep"
    unlimited = found["macs"]
    within = recommended(folder, "--seconds", 1, "--max-macs", unlimited // 2)
    assert within["macs"] <= unlimited // 2
    assert within["architecture"] != found["architecture"]


def test_a_folder_without_a_prior_is_refused(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["recommend", str(folder), "--prior", str(tmp_path)])
    assert done.exit_code == 2
    assert "no card there" in done.stderr
    assert "nas_bench_201-deep" in " ".join(done.stderr.split())


def test_a_longer_training_is_recommended_what_pays_off_in_it(folder: Path, prior: Path, tmp_path: Path) -> None:
    card = json.loads((prior / "card.json").read_text())
    nothing = dict.fromkeys(card["trials"]["chooses"]["traits"], 0.0)
    options = [[0.0] * len(row) for row in card["trials"]["chooses"]["options"]]
    pays_off = {"training_steps": {**nothing, "log_params": -1.0}}
    card["trials"]["chooses"]["context"].pop("training_steps", None)
    (tmp_path / "card.json").write_text(json.dumps(card))
    refused = CliRunner().invoke(app, ["recommend", str(folder), "--prior", str(tmp_path), "--train-steps", "9"])
    assert refused.exit_code == 2
    assert "show no effect of the length" in " ".join(refused.output.split())
    card["trials"]["config"] |= {"num_tasks": 4, "num_steps_shares": [1.0, 0.5]}
    card["trials"]["chooses"] |= {"options": options, "traits": nothing, "context": pays_off}
    card["trials"]["chooses"]["context_mean"]["training_steps"] = math.log2(4 / 1000)
    (tmp_path / "card.json").write_text(json.dumps(card))
    long, short = (
        recommended(folder, "--prior", tmp_path, "--seconds", 1, "--train-steps", steps) for steps in (1_000_000, 1)
    )
    assert long["params"] > 1.2 * short["params"]
