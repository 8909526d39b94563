"""`archprior predict` against the script that lies in every bundle."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from search_spaces.standalone import predict


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, color in {"a": (255, 0, 0), "b": (0, 100, 90)}.items():
        Image.new("RGB", (9, 14), color).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize("options", [(), ("--json",), ("--top", "1")])
def test_it_tells_what_the_script_tells(run_cli, color_bundle, images, options):
    script = [sys.executable, predict.__file__, "--bundle", color_bundle, images, *options]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

    result = run_cli("predict", color_bundle, images, *options)

    assert result.exit_code == 0, result.output
    assert result.stdout == done.stdout
    assert "red" in result.stdout


def test_several_images_may_be_named(run_cli, last_json, color_bundle, images):
    result = run_cli("predict", color_bundle, images / "b.png", images / "a.png", "--json")
    assert [one["top"][0]["label"] for one in last_json(result)["predictions"]] == ["green", "red"]


def test_an_unreadable_image_ends_with_1_and_the_others_are_told(run_cli, color_bundle, images):
    (images / "c.png").write_bytes(b"no image")
    result = run_cli("predict", color_bundle, images)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr == f"error: {images / 'c.png'}: not an image of a known kind\n"


def test_what_is_no_bundle_or_no_image_is_refused_with_a_reason(run_cli, last_json, color_bundle, images, tmp_path):
    for arguments in ((tmp_path / "none", images), (color_bundle, tmp_path / "none.png")):
        result = run_cli("predict", *arguments, "--json")
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("error: ")
        assert str(tmp_path / "none") in last_json(result)["error"]["detail"]
    assert run_cli("predict", color_bundle).exit_code == 2
    assert run_cli("predict", color_bundle, images, "--top", 0).exit_code == 2


def test_predict_needs_no_torch(color_bundle, images):
    code = f"""
import sys
sys.modules["torch"] = None
from service.cli.main import app
app(["predict", {str(color_bundle)!r}, {str(images)!r}, "--json"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["predictions"]) == 2
