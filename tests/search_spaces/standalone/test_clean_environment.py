"""A bundle in an environment that has numpy, pillow and onnxruntime, and nothing of ours."""

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search_spaces.export import Preprocessing, load_onnx, save_onnx, trace
from search_spaces.network import build_network
from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from search_spaces.standalone import predict

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PACKAGES = ("numpy", "pillow", "onnxruntime")
SIDE, LABELS = 16, ["ant", "bee", "moth"]


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new virtual environment with those packages; skips where they cannot be had."""
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
    python = folder / "bin" / "python"
    wanted = [f"{name}=={metadata.version(name)}" for name in PACKAGES]
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"pip cannot install {', '.join(wanted)} here: {done.stderr.strip().splitlines()[-1:]}")
    return python


@pytest.fixture
def bundle(draw_architectures, tmp_path: Path) -> Path:
    """A real network's files, as an adaptation publishes them."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    macro = Macro(num_channels=8, num_cells=1, num_classes=len(LABELS), image_size=SIDE)
    network = build_network(draw_architectures(SPACES["nas_bench_201"], 1, seed=2)[0], macro).eval()
    preprocessing = Preprocessing(image_size=SIDE, mean=(0.5,) * 3, std=(0.25,) * 3)
    save_onnx(trace(network, preprocessing), folder / "model.onnx")
    (folder / "preprocessing.json").write_text(json.dumps(preprocessing.to_json()))
    (folder / "labels.json").write_text(json.dumps(LABELS))
    shutil.copy(predict.__file__, folder / "predict.py")
    return folder


def test_the_script_predicts_where_nothing_of_ours_is_installed(clean_python: Path, bundle: Path) -> None:
    images = bundle.parent / "images"
    images.mkdir()
    random = np.random.default_rng(0)
    for number in range(3):
        pixels = random.integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    for ours in ("torch", "search_spaces", "workers", "service"):
        absent = subprocess.run([clean_python, "-c", f"import {ours}"], cwd=bundle, capture_output=True, check=False)
        assert absent.returncode != 0, f"{ours} is there"

    done = subprocess.run(
        [clean_python, bundle / "predict.py", images, "--json"],
        cwd=bundle.parent,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told = json.loads(done.stdout)["predictions"]
    paths = sorted(images.iterdir())
    assert [one["image"] for one in told] == [str(path) for path in paths]
    batch = np.stack([predict.decode_square(path.read_bytes(), SIDE) for path in paths]).transpose(0, 3, 1, 2)
    logits = load_onnx(bundle / "model.onnx")(np.ascontiguousarray(batch)).astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for one, probabilities in zip(told, expected, strict=True):
        assert {top["label"]: top["probability"] for top in one["top"]} == pytest.approx(
            dict(zip(LABELS, probabilities, strict=True)), abs=1e-5
        )
        assert one["top"] == sorted(one["top"], key=lambda top: -top["probability"])
