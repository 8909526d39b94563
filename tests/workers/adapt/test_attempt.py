"""What an attempt leaves: files that agree with their report, within its budget, or nothing."""

import hashlib
import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from search_spaces.export import Model, load_network, load_torch
from search_spaces.network import Network
from search_spaces.registry import SPACES
from search_spaces.standalone.predict import Classifier
from tests.workers.adapt.attempts import CPU, MakeAttempt, run
from workers.adapt.attempt import run_attempt
from workers.adapt.card import write_card
from workers.adapt.choice import predict
from workers.adapt.data import TaskData
from workers.adapt.sync import Group
from workers.contracts.adaptations import Progress
from workers.contracts.artifacts import MEDIA_TYPES
from workers.contracts.base import Precision
from workers.contracts.errors import CancelledError, ExportMismatchError
from workers.store.folder import FolderStore
from workers.training.recipe import Trainer


def test_an_attempt_publishes_every_artifact_as_its_manifest_says(
    store: FolderStore, make_attempt: MakeAttempt, tmp_path: Path
) -> None:
    key = make_attempt(budget_s=25.0)
    manifest, metrics = run(store, key)
    assert [artifact.name for artifact in manifest.artifacts] == list(MEDIA_TYPES)
    for artifact in manifest.artifacts:
        data = store.get_bytes(f"{key}/{artifact.name}")
        assert (len(data), hashlib.sha256(data).hexdigest()) == (artifact.num_bytes, artifact.sha256)
    # Four digits are easy; chance is 0.25.
    assert metrics.accuracy > 0.5
    assert metrics.accuracy_interval.low <= metrics.accuracy <= metrics.accuracy_interval.high
    assert metrics.num_train + metrics.num_query + metrics.num_test == 240
    progress = Progress.model_validate_json(store.get_bytes(f"{key}/progress.json"))
    assert (progress.phase, progress.fraction) == ("done", 1.0)
    assert {"train_loss", "query_accuracy"} <= metrics.series.keys()
    assert metrics.num_learned == metrics.num_train + metrics.num_query - metrics.num_query // 4
    # The cost that is told is that of the network that is shipped.
    weights = tmp_path / "weights.safetensors"
    store.get_file(f"{key}/weights.safetensors", weights)
    network = load_network(weights)
    assert sum(p.numel() for p in network.parameters()) == metrics.cost.params
    assert SPACES["nas_bench_201"].parse(metrics.architecture) == network.architecture


def test_the_exported_model_files_take_bytes_and_any_batch_and_agree_with_the_report(
    store: FolderStore, make_attempt: MakeAttempt, tmp_path: Path
) -> None:
    key = make_attempt(search="random", budget_s=8.0)
    _, metrics = run(store, key)
    for name in ("model.onnx", "model.pt2", "predict.py", "preprocessing.json", "labels.json"):
        store.get_file(f"{key}/{name}", tmp_path / name)
        assert 0 <= metrics.max_reload_difference.get(name, 0.0) < 1e-3
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    program = load_torch(tmp_path / "model.pt2")
    side = metrics.resolution
    for number in (1, 5):
        images = np.zeros((number, 3, side, side), np.uint8)
        (logits,) = session.run(None, {"images": images})
        assert logits.shape == (number, 4)
        np.testing.assert_allclose(program(images), logits, atol=1e-3)
    assert Classifier(tmp_path).labels == ["0", "1", "2", "3"]
    script = resources.files("search_spaces.standalone").joinpath("predict.py").read_bytes()
    assert (tmp_path / "predict.py").read_bytes() == script
    report = store.get_bytes(f"{key}/report.md").decode()
    assert f"{metrics.accuracy:.1%}" in report
    assert f"{metrics.cost.params:,}" in report
    assert store.get_bytes(f"{key}/card.md").decode() == write_card(metrics)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_precision_that_is_faster_is_trained_in(
    store: FolderStore, make_attempt: MakeAttempt, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.adapt.start.faster_precision", lambda *_: precision)
    trained: list[str] = []

    def trainer(network: Network, chosen: Precision) -> Trainer:
        trained.append(chosen)
        return Trainer(network, chosen)

    monkeypatch.setattr("workers.adapt.final.Trainer", trainer)
    _, metrics = run(store, make_attempt(search="random", budget_s=8.0))
    assert metrics.plan["precision"] == precision
    assert trained == [precision]
    assert metrics.accuracy > 0.5


def test_images_are_shrunk_where_the_seconds_afford_few_looks_at_them(
    store: FolderStore, make_attempt: MakeAttempt, large_digits_zip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.adapt.side.mean_seconds", lambda *_: 60.0)  # of a very slow machine

    key = make_attempt(archive=large_digits_zip, search="random", budget_s=8.0)
    _, metrics = run(store, key)

    assert metrics.resolution == 16
    assert "images of 32 pixels: all were shrunk to 16." in metrics.budget_note
    space = SPACES["nas_bench_201"]
    macro = space.default_macro(num_classes=4, image_size=16)
    assert metrics.cost.macs == space.cost(space.parse(metrics.architecture), macro).macs
    preprocessing = json.loads(store.get_bytes(f"{key}/preprocessing.json"))
    assert preprocessing["image_size"] == 16

    asked = make_attempt(2, archive=large_digits_zip, search="random", budget_s=8.0, resolution=32)
    _, metrics = run(store, asked)
    assert (metrics.resolution, "shrunk" in metrics.budget_note) == (32, False)


def test_how_well_the_network_is_calibrated_is_told(store: FolderStore, make_attempt: MakeAttempt) -> None:
    _, metrics = run(store, make_attempt(search="random", budget_s=6.0))
    assert metrics.nll is not None
    assert metrics.calibration_error is not None
    assert 0 <= metrics.calibration_error <= 1
    # Its likelihood can hardly be below that of guessing where it is right most of the time.
    assert 0 < metrics.nll < 3


def test_what_is_reported_is_measured_on_the_test_images(
    store: FolderStore, make_attempt: MakeAttempt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from workers.adapt import attempt as module

    honest, staged = module.stage, list[TaskData]()

    def mislabeled(*arguments: object) -> TaskData:
        data = honest(*arguments)
        staged.append(replace(data, test=replace(data.test, labels=(data.test.labels + 1) % 4)))
        return staged[0]

    monkeypatch.setattr(module, "stage", mislabeled)
    key = make_attempt(search="random", budget_s=8.0)
    _, metrics = run(store, key)
    store.get_file(f"{key}/weights.safetensors", tmp_path / "weights.safetensors")
    test = staged[0].test
    found = predict(load_network(tmp_path / "weights.safetensors"), test).argmax(dim=1)
    assert metrics.accuracy == pytest.approx(float((found == test.labels).double().mean()))
    assert metrics.accuracy < float(((found + 1) % 4 == test.labels).double().mean())


def test_a_budget_too_short_still_ends_with_a_network_and_says_so(
    store: FolderStore, make_attempt: MakeAttempt
) -> None:
    key = make_attempt(budget_s=20.0, spent_s=19.0)
    _, metrics = run(store, key)
    assert "too short" in metrics.budget_note


def test_a_budget_holds(store: FolderStore, make_attempt: MakeAttempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.adapt.plan.MAX_TRAIN_EPOCHS", 100_000)  # only the clock ends the training
    _, metrics = run(store, make_attempt(budget_s=20.0))
    # The export's seconds are an estimate, to which a busy machine adds.
    assert sum(metrics.timings_s[phase] for phase in ("staging", "searching", "training")) < 20.0


def test_a_cancel_stops_the_attempt_without_a_manifest(store: FolderStore, make_attempt: MakeAttempt) -> None:
    key = make_attempt()
    store.put_bytes(f"{key}/control.json", b'{"desired": "cancel"}')
    with pytest.raises(CancelledError):
        run_attempt(store, key, Group(), CPU)
    assert store.size(f"{key}/manifest.json") is None


@pytest.mark.parametrize(("loader", "file"), [("load_onnx", "model.onnx"), ("load_torch", "model.pt2")])
def test_a_model_file_that_predicts_something_else_is_not_published(
    store: FolderStore, make_attempt: MakeAttempt, monkeypatch: pytest.MonkeyPatch, loader: str, file: str
) -> None:
    from workers.adapt import publish

    honest = getattr(publish, loader)

    def load(path: Path) -> Model:
        model = honest(path)
        # Wrong for one image alone, as a file with a fixed batch would be.
        return lambda images: model(images) + 0.1 * (len(images) == 1)

    monkeypatch.setattr(publish, loader, load)
    key = make_attempt(search="random", budget_s=8.0)
    with pytest.raises(ExportMismatchError, match=rf"{file} predicts something else"):
        run_attempt(store, key, Group(), CPU)
    assert store.size(f"{key}/manifest.json") is None
