"""`archprior meta-train` from real images to a prior that the registry reads."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
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


def test_it_learns_from_several_datasets_by_their_weights_gray_and_color_at_64_pixels(
    digits_folder: Path, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", x=noise, y=np.arange(24) % 4)
    config = write(tmp_path / "config.json", {**CONFIG, "resolutions": [64], "num_examples": [4, 20], "joint_batch": 4})
    splits = [
        write(tmp_path / "digits.json", {"meta_train": ["0", "1", "2"], "meta_validation": ["4", "5"]}),
        write(tmp_path / "noise.json", {"meta_train": ["0", "3"], "meta_test": ["1", "2"]}),
    ]
    out = tmp_path / "mine"
    data = ["--data", f"{digits_folder}:2.5", "--data", str(tmp_path / "noise.npz")]
    named = ["--split", splits[0], "--split", splits[1], "--terms", "BSD", "--terms", "none"]
    done = run(*data, *named, "--config", config, "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    card = PriorCard.model_validate_json(done.stdout.splitlines()[-1])
    assert [(item.classes, item.terms) for item in card.data] == [(("0", "1", "2"), "BSD"), (("0", "3"), "none")]
    assert card.resolutions == (64,)
    assert f"{digits_folder}:2.5" in card.command


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "DATA:0"], "a weight above 0"),
        (["--data", "DATA:x"], "a weight above 0"),
        (["--data", "DATA", "--data", "DATA", "--split", "SPLIT"], "--split is given 1 times"),
        (["--data", "DATA", "--terms", "a", "--terms", "b"], "--terms is given 2 times"),
    ],
)
def test_datasets_whose_weights_splits_or_terms_do_not_fit_are_refused(
    flags: list[str], message: str, digits_folder: Path, tmp_path: Path
) -> None:
    split = write(tmp_path / "split.json", {"meta_train": ["0", "1"]})
    put = [flag.replace("DATA", str(digits_folder)).replace("SPLIT", split) for flag in flags]
    done = run(*put, "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 5}, "steps"),
        ({"num_steps": 0}, "num_steps"),
        ({"warmup_steps": 5}, "must not decrease"),
        ({"rule": "unrolled"}, "relaxed"),
        ({"num_examples": [20, 10]}, "num_examples"),
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


def test_a_run_begins_from_a_parent_and_goes_on_from_no_other(digits_folder: Path, tmp_path: Path) -> None:
    data = ["--data", str(digits_folder)]
    config = write(tmp_path / "config.json", {**CONFIG, "num_steps": 2, "warmup_steps": 1, "joint_steps": 2})
    for name in ("first", "second"):
        terms = ["--terms", f"of the {name}"]
        assert run(*data, *terms, "--config", config, "--out", str(tmp_path / name)).returncode == 0
    # One step that moves nothing much: what comes out is what went in.
    slow = {**CONFIG, "num_steps": 2, "warmup_steps": 2, "joint_steps": 2, "lr": 1e-9, "seed": 1}
    begun = [*data, "--config", write(tmp_path / "slow.json", slow), "--out", str(tmp_path / "child")]
    paused = run(*begun, "--parent", str(tmp_path / "first"), "--num-steps", "1")
    assert paused.returncode == 0, paused.stderr
    other = run(*begun, "--parent", str(tmp_path / "second"))
    assert other.returncode == 1
    assert "began from another prior" in other.stderr
    assert run(*begun).returncode == 1
    done = run(*begun, "--parent", str(tmp_path / "first"))
    assert done.returncode == 0, done.stderr

    card = parse_card((tmp_path / "child" / "card.json").read_bytes(), "child")
    assert card.parent == "first"
    assert [learned.terms for learned in card.data] == ["not stated", "of the first"]
    priors = [load_file(tmp_path / name / "prior.safetensors") for name in ("first", "child")]
    assert all(torch.allclose(priors[0][key], priors[1][key], atol=1e-3) for key in priors[0])


def test_a_parent_of_another_skeleton_is_refused(digits_folder: Path, tmp_path: Path) -> None:
    data = ["--data", str(digits_folder)]
    config = write(tmp_path / "config.json", {**CONFIG, "num_steps": 1, "warmup_steps": 1, "joint_steps": 1})
    assert run(*data, "--config", config, "--out", str(tmp_path / "narrow")).returncode == 0
    wide = write(tmp_path / "wide.json", {**CONFIG, "macro": {"num_channels": 8, "num_cells": 1}})
    refused = run(*data, "--config", wide, "--out", str(tmp_path / "wide"), "--parent", str(tmp_path / "narrow"))
    assert refused.returncode == 1
    assert "fits another configuration" in refused.stderr
