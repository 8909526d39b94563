"""`archprior meta-train` from real images to a prior that the registry reads."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from workers.contracts.priors import PriorCard
from workers.priors.registry import parse_card

CONFIG = {
    "search_space": "nas_bench_201",
    "macro": {"num_channels": 4, "num_cells": 1},
    "num_steps": 6,
    "warmup_steps": 2,
    "joint_steps": 4,
    "resolutions": [8],
    "resolution_weights": [1.0],
    "min_ways": 2,
    "max_ways": 4,
    "joint_batch": 16,
    "num_support": 16,
    "num_query": 16,
    "num_inner_steps": 1,
    "num_arch_samples": 2,
    "flip": False,
    "evaluate_every": 3,
}


@pytest.fixture(scope="module")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    digits = load_digits()
    for label in range(6):
        (folder / f"{label}").mkdir()
        for number, pixels in enumerate(digits.images[digits.target == label][:20]):
            Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(folder / f"{label}" / f"{number}.png")
    return folder


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli.main", "meta-train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write(path: Path, document: object) -> str:
    path.write_text(json.dumps(document))
    return str(path)


def test_it_pauses_goes_on_and_ends_with_a_prior_and_its_card(digits_folder: Path, tmp_path: Path) -> None:
    config = write(tmp_path / "config.json", CONFIG)
    split = write(tmp_path / "split.json", {"meta_train": ["0", "1", "2", "3"], "meta_validation": ["4", "5"]})
    out = tmp_path / "mine"
    flags = ["--data", str(digits_folder), "--split", split, "--config", config, "--out", str(out), "--json"]
    paused = run(*flags, "--num-steps", "3")
    assert json.loads(paused.stdout)["step"] == 3, paused.stderr
    assert not (out / "card.json").exists()
    done = run(*flags, "--terms", "BSD")
    assert done.returncode == 0, done.stderr
    card = PriorCard.model_validate_json(done.stdout.splitlines()[-1])
    assert card == parse_card((out / "card.json").read_bytes(), "mine")
    assert (card.id, card.num_steps) == ("mine", 6)
    (learned,) = card.data
    assert (learned.classes, learned.terms) == (("0", "1", "2", "3"), "BSD")
    assert {"loss", "entropy", "held-out accuracy after 0 steps"} <= card.curves.keys()
    assert (out / "curves.svg").read_text().startswith("<?xml")
    assert (out / "prior.safetensors").stat().st_size == card.num_bytes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 5}, "steps"),
        ({"num_steps": 0}, "num_steps"),
        ({"warmup_steps": 5}, "must not decrease"),
        ({"rule": "unrolled"}, "relaxed"),
    ],
)
def test_a_configuration_that_is_wrong_is_refused_by_field(
    change: dict[str, object], message: str, digits_folder: Path, tmp_path: Path
) -> None:
    config = write(tmp_path / "config.json", {**CONFIG, **change})
    done = run("--data", str(digits_folder), "--config", config, "--out", str(tmp_path / "out"))
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_split_that_names_unknown_classes_is_refused(digits_folder: Path, tmp_path: Path) -> None:
    split = write(tmp_path / "split.json", {"meta_train": ["0", "1", "nine"]})
    config = write(tmp_path / "config.json", CONFIG)
    done = run("--data", str(digits_folder), "--config", config, "--split", split, "--out", str(tmp_path / "out"))
    assert done.returncode in (1, 2)
    assert "nine" in done.stderr
    assert "Traceback" not in done.stderr
