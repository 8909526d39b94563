"""The script that lies beside an exported network."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search_spaces.export import Preprocessing
from search_spaces.standalone import predict
from search_spaces.standalone.predict import Classifier, UnusableError, find_images

Run = Callable[..., int]


@pytest.fixture
def run(color_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the script on that bundle with arguments; returns its exit status."""

    def run(*arguments: object) -> int:
        words = ["predict.py", "--bundle", str(color_bundle), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        return predict.main()

    return run


def write(path: Path, color: tuple[int, int, int], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 30), color).save(path, **options)
    return path


def test_an_image_gets_its_likeliest_labels_with_their_probabilities(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.png", (100, 90, 0))

    assert run(path, "--top", 2, "--json") == 0

    (line,) = capsys.readouterr().out.splitlines()
    (told,) = json.loads(line)["predictions"]
    assert told["image"] == str(path)
    assert [one["label"] for one in told["top"]] == ["red", "green"]
    # The logits are a tenth of the mean of each channel.
    weights = np.exp([10.0, 9.0, 0.0])
    expected = weights / weights.sum()
    assert [one["probability"] for one in told["top"]] == pytest.approx(expected[:2], abs=1e-6)
    assert run(path) == 0
    assert capsys.readouterr().out == f"{path}: red 73.1%, green 26.9%, blue 0.0%\n"


def test_folders_are_read_to_their_depth_in_the_order_of_names(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    for name in ("b/2.PNG", "b/1.jpg", "a.webp", ".hidden/3.png", "b/._1.png"):
        write(folder / name, (0, 255, 0))
    (folder / "notes.txt").write_text("no image")
    # A file that is named is read, whatever its name ends in.
    odd = write(tmp_path / "odd", (0, 0, 255), format="PNG")

    assert run(folder, odd, "--top", 1) == 0

    lines = capsys.readouterr().out.splitlines()
    paths = [folder / "a.webp", folder / "b/1.jpg", folder / "b/2.PNG"]
    assert lines == [*(f"{path}: green 100.0%" for path in paths), f"{odd}: blue 100.0%"]


def test_more_images_than_a_batch_keep_their_order(color_bundle: Path, tmp_path: Path) -> None:
    colors = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
    wanted = [list(colors)[number % 3] for number in range(2 * predict.BATCH_SIZE + 5)]
    paths = [write(tmp_path / f"{number}.png", colors[name]) for number, name in enumerate(wanted)]

    found = [one.top[0][0] for one in Classifier(color_bundle).predict(paths, top=1)]

    assert found == wanted


def test_an_unreadable_image_is_told_and_the_others_are_predicted(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "a.png", (255, 0, 0))
    bad, cut = tmp_path / "b.png", tmp_path / "c.png"
    bad.write_bytes(b"no image")
    cut.write_bytes(good.read_bytes()[:40])

    assert run(bad, good, cut, "--json") == 1

    captured = capsys.readouterr()
    told = json.loads(captured.out)["predictions"]
    assert [one["image"] for one in told] == [str(bad), str(good), str(cut)]
    assert told[0] == {"image": str(bad), "error": "not an image of a known kind"}
    assert told[1]["top"][0]["label"] == "red"
    assert captured.err.splitlines()[0] == f"error: {bad}: not an image of a known kind"
    assert run(bad) == 1
    assert capsys.readouterr().out == ""


def test_paths_that_name_no_image_are_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for path, word in ((tmp_path / "missing.png", "no such image or folder"), (tmp_path / "empty", "no image lies")):
        with pytest.raises(UnusableError, match=word):
            find_images([path])
        assert run(path) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert word in captured.err
        assert str(path) in captured.err


@pytest.mark.parametrize(
    ("file", "content", "word"),
    [
        ("model.onnx", None, r"there is no .*model\.onnx; a bundle is a folder with"),
        ("labels.json", None, r"there is no .*labels\.json"),
        ("preprocessing.json", None, r"there is no .*preprocessing\.json"),
        ("model.onnx", b"no network", "no network that ONNX Runtime can run"),
        ("model.onnx", b"", "no network that ONNX Runtime can run"),
        ("labels.json", b"[", "cannot be read"),
        ("labels.json", b"\xff", "cannot be read"),
        ("labels.json", b"[1, 2, 3]", "no list of names"),
        ("labels.json", b'["one", "two"]', "of two networks"),
        ("preprocessing.json", b"[]", "cannot do"),
        ("preprocessing.json", b'{"image_size": 8, "mode": "L"}', "cannot do"),
        ("preprocessing.json", json.dumps({**predict.KNOWN, "image_size": 9}).encode(), "of two networks"),
        ("preprocessing.json", json.dumps(predict.KNOWN).encode(), "no image_size"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(color_bundle: Path, file: str, content: bytes | None, word: str) -> None:
    if content is None:
        (color_bundle / file).unlink()
    else:
        (color_bundle / file).write_bytes(content)

    with pytest.raises(UnusableError, match=word):
        Classifier(color_bundle)


def test_the_script_can_do_what_an_export_asks_for() -> None:
    written = Preprocessing(image_size=8, mean=(0.5,) * 3, std=(0.5,) * 3).to_json()

    assert predict.KNOWN.items() <= written.items()


def test_labels_are_asked_for_by_a_number_of_one_or_more(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", (1, 2, 3))
    with pytest.raises(SystemExit) as ended:
        run(path, "--top", 0)
    assert ended.value.code == 2


def test_an_image_with_too_many_pixels_is_told_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "MAX_PIXELS", 99)
    data = io.BytesIO()
    Image.new("RGB", (10, 10)).save(data, "PNG")

    with pytest.raises(predict.UnreadableImageError, match="10 x 10 pixels are too many"):
        predict.decode_square(data.getvalue()[:50], 4)


def test_a_name_that_the_output_cannot_hold_is_written_with_escapes(color_bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "\u263a.png", (255, 0, 0), format="PNG")
    command = [sys.executable, predict.__file__, "--bundle", color_bundle, tmp_path / "\u263a.png", "--top", "1"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\\u263a.png: red 100.0%\n")


def test_an_older_pillow_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.png", (255, 0, 0))
    monkeypatch.delattr(Image.Image, "has_transparency_data")

    assert run(path) == 2
    assert "install pillow 10.1 or newer" in capsys.readouterr().err
