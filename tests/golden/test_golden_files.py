"""What an earlier version has stored is read; what a newer one may store is refused by a sentence."""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from search_spaces.errors import ArchPriorError
from search_spaces.export import load_network, load_onnx, load_torch
from search_spaces.registry import SPACES
from search_spaces.standalone.predict import Classifier, UnusableError
from service.attempt_files import JobFiles
from service.housekeeping.backup import back_up, restore
from service.ray.process import RayProcess
from service.records.database import Database
from service.records.datasets import DatasetRecords
from service.records.priors import PriorRecords
from workers.adapt.choice import predict
from workers.adapt.data import Part
from workers.adapt.staging import read_report
from workers.contracts.adaptations import AttemptRequest, Plan, Progress
from workers.contracts.artifacts import MANIFEST, Manifest, Metrics
from workers.contracts.datasets import DatasetFindings, DatasetReport
from workers.contracts.meta_runs import CheckpointManifest
from workers.meta.checkpoints import Checkpoints
from workers.meta.learning.state import MetaState
from workers.priors.model import body_shapes, full_macro
from workers.priors.registry import PriorRegistry
from workers.priors.tensors import load_prior
from workers.store import layout
from workers.store.folder import FolderStore
from workers.tasks.archive import check_archive
from workers.tasks.images import load_images
from workers.tasks.limits import ArchiveLimits

GOLDEN = Path(__file__).parent / "v1"
CLASSES = ("blue", "green", "red")
ATTEMPT = layout.attempt("ad-golden000001", 1)
CHECKPOINT = f"{layout.checkpoints('mr-golden000001')}/00000004"


@dataclass(frozen=True)
class Kept:
    """A copy of what was stored."""

    folder: Path

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.folder / "store", create=True)

    @property
    def bundle(self) -> Path:
        return self.path(ATTEMPT)

    @property
    def sha256(self) -> str:
        return self.attempt().dataset_sha256

    def path(self, key: str) -> Path:
        return self.folder / "store" / key

    def attempt(self) -> AttemptRequest:
        return AttemptRequest.from_stored((self.bundle / "request.json").read_bytes(), "request.json")

    def images(self) -> np.ndarray:
        """The first image of each class, uint8 [3, 16, 16, 3]."""
        report = read_report(self.store, self.attempt())
        loaded = load_images(self.path(layout.dataset_archive(self.sha256)), 16, report)
        return loaded.images[[int(np.argmax(loaded.labels == label)) for label in range(3)]]

    def state(self) -> MetaState:
        """A fresh one, of the run that the checkpoint belongs to."""
        manifest = CheckpointManifest.from_stored(self.path(f"{CHECKPOINT}/{MANIFEST}").read_bytes(), MANIFEST)
        return MetaState(manifest.config, manifest.class_names)

    def restore(self, state: MetaState) -> int:
        """Bring a fresh state to the checkpoint; return the number of logged steps."""
        restored = Checkpoints(self.store, layout.checkpoints("mr-golden000001")).restore(state)
        assert restored is not None
        return len(restored.log)

    def load_prior(self) -> None:
        card = PriorRegistry(self.store).card("golden-v1")
        path = PriorRegistry(self.store).fetch(card.id, self.folder)
        shapes = body_shapes(card.search_space, full_macro(card.macro, num_classes=3, image_size=16))
        load_prior(path, SPACES[card.search_space], shapes)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    shutil.copytree(GOLDEN, tmp_path / "golden")
    return Kept(tmp_path / "golden")


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    """Probabilities [3, 3] of the images, by label."""
    told = json.loads((GOLDEN / "predictions.json").read_text())
    return np.array([[image[label] for label in CLASSES] for image in told])


def probabilities(logits: np.ndarray) -> np.ndarray:
    return torch.softmax(torch.from_numpy(logits), dim=-1).numpy()


def test_a_dataset_is_read_and_its_report_is_still_what_a_check_finds(kept: Kept) -> None:
    store, sha256 = kept.store, kept.sha256
    archive = kept.path(layout.dataset_archive(sha256))
    report = DatasetReport.from_stored(store.get_bytes(layout.dataset_report(sha256)), "report.json")
    findings = DatasetFindings.from_stored(store.get_bytes(layout.dataset_findings(sha256)), "findings.json")

    again = check_archive(archive, ArchiveLimits())

    assert hashlib.sha256(archive.read_bytes()).hexdigest() == sha256
    assert again.report == report
    assert (findings.num_duplicates, findings.suggested_split) == (1, again.findings.suggested_split)


def test_a_prior_is_found_and_fits_its_supernet(kept: Kept) -> None:
    kept.load_prior()


def test_a_checkpoint_is_gone_on_from(kept: Kept) -> None:
    state = kept.state()

    assert kept.restore(state) == state.step == 4


def test_a_finished_adaptation_is_read_whole(kept: Kept) -> None:
    files = JobFiles(kept.store, ATTEMPT)
    manifest = files.require(MANIFEST, Manifest)
    metrics, progress = files.require("metrics.json", Metrics), files.require("progress.json", Progress)

    for artifact in manifest.artifacts:
        data = (kept.bundle / artifact.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (artifact.num_bytes, artifact.sha256), artifact.name
    assert files.require("plan.json", Plan).resolution == 16
    assert progress.phase == "done"
    document = json.loads((kept.bundle / "architecture.json").read_text())
    network = load_network(kept.bundle / "weights.safetensors")
    assert SPACES["nas_bench_201"].parse(document) == network.architecture
    assert SPACES["nas_bench_201"].format(network.architecture) == metrics.architecture


def test_every_model_file_predicts_what_it_did(kept: Kept, expected: np.ndarray) -> None:
    images = kept.images()
    nchw = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    part = Part(images=torch.from_numpy(images), labels=torch.arange(3))
    found = {
        "weights.safetensors": predict(load_network(kept.bundle / "weights.safetensors"), part).numpy(),
        "model.onnx": load_onnx(kept.bundle / "model.onnx")(nchw),
        "model.pt2": load_torch(kept.bundle / "model.pt2")(nchw),
    }
    for name, logits in found.items():
        np.testing.assert_allclose(probabilities(logits), expected, atol=2e-3, err_msg=name)
    np.testing.assert_allclose(Classifier(kept.bundle).probabilities(images), expected, atol=2e-3)


def test_the_script_that_came_with_a_network_still_runs(kept: Kept, expected: np.ndarray, tmp_path: Path) -> None:
    names = [f"{name}/00.png" for name in CLASSES]
    with zipfile.ZipFile(kept.path(layout.dataset_archive(kept.sha256))) as archive:
        archive.extractall(tmp_path, names)
    command = [sys.executable, str(kept.bundle / "predict.py"), "--json", *names]

    done = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)

    told = json.loads(done.stdout)["predictions"]
    assert [image["top"][0]["label"] for image in told] == list(CLASSES)
    np.testing.assert_allclose([image["top"][0]["probability"] for image in told], expected.max(axis=1), atol=2e-3)


def test_the_memory_of_a_local_ray_is_read(kept: Kept) -> None:
    remembered = RayProcess.remembered(kept.folder / "ray.json")

    assert remembered is not None
    assert (remembered.pid, remembered.mark) == (4_000_001, "golden-boot/12345")
    assert not remembered.lives()


def rewritten(path: Path, key: str = "schema_version") -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), key: 2}))


def rewritten_tensors(path: Path) -> None:
    save_file(load_file(path), path, metadata={"format_version": "2"})


def newer_request(kept: Kept) -> None:
    rewritten(kept.bundle / "request.json")
    kept.attempt()


def newer_report(kept: Kept) -> None:
    rewritten(kept.path(layout.dataset_report(kept.sha256)))
    read_report(kept.store, kept.attempt())


def newer_manifest(kept: Kept) -> None:
    rewritten(kept.bundle / MANIFEST)
    JobFiles(kept.store, ATTEMPT).require(MANIFEST, Manifest)


def newer_weights(kept: Kept) -> None:
    rewritten_tensors(kept.bundle / "weights.safetensors")
    load_network(kept.bundle / "weights.safetensors")


def newer_architecture(kept: Kept) -> None:
    rewritten(kept.bundle / "architecture.json", "format_version")
    SPACES["nas_bench_201"].parse(json.loads((kept.bundle / "architecture.json").read_text()))


def newer_preprocessing(kept: Kept) -> None:
    rewritten(kept.bundle / "preprocessing.json", "format_version")
    Classifier(kept.bundle)


def newer_card(kept: Kept) -> None:
    rewritten(kept.path("priors/golden-v1/card.json"))
    kept.load_prior()


def newer_prior(kept: Kept) -> None:
    tensors = kept.path("priors/golden-v1/prior.safetensors")
    rewritten_tensors(tensors)
    card = kept.path("priors/golden-v1/card.json")
    sha256 = hashlib.sha256(tensors.read_bytes()).hexdigest()
    card.write_text(json.dumps({**json.loads(card.read_text()), "sha256": sha256}))
    kept.load_prior()


def newer_checkpoint_manifest(kept: Kept) -> None:
    state = kept.state()
    rewritten(kept.path(f"{CHECKPOINT}/{MANIFEST}"))
    kept.restore(state)


def newer_checkpoint(kept: Kept) -> None:
    path = kept.path(f"{CHECKPOINT}/checkpoint.pt")
    torch.save({**torch.load(path, weights_only=True), "format_version": 2}, path)
    kept.state().load(path)


@pytest.mark.parametrize(
    ("read", "file"),
    [
        (newer_request, "request.json"),
        (newer_report, "report.json"),
        (newer_manifest, "manifest.json"),
        (newer_weights, "weights.safetensors"),
        (newer_architecture, "architecture"),
        (newer_preprocessing, "preprocessing.json"),
        (newer_card, "card of prior golden-v1"),
        (newer_prior, "prior's tensors"),
        (newer_checkpoint_manifest, "00000004/manifest.json"),
        (newer_checkpoint, "checkpoint.pt"),
    ],
)
def test_what_a_newer_version_wrote_is_named_with_its_version_and_the_way_out(
    kept: Kept, read: Callable[[Kept], None], file: str
) -> None:
    with pytest.raises((ArchPriorError, UnusableError)) as caught:
        read(kept)

    told = str(caught.value)
    assert file in told
    assert "version" in told
    assert "2" in told
    assert "pdate ArchPrior" in told or "update this one" in told
    assert "validation error" not in told


def test_a_local_ray_that_a_newer_version_remembers_is_left_alone(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    rewritten(kept.folder / "ray.json")

    with caplog.at_level(logging.WARNING):
        assert RayProcess.remembered(kept.folder / "ray.json") is None

    assert "ray.json was written by a newer ArchPrior: got 'format version 2'" in caplog.text


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_backup_is_restored_and_brought_up_to_date(version: str, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN.parent / version / "backup", tmp_path / "backup")
    database = Database(f"sqlite:///{tmp_path / 'records.sqlite3'}")
    store = FolderStore(tmp_path / "objects", create=True)

    restored = restore(database, store, tmp_path / "backup", tell=lambda _: None)

    assert f"v{restored.format_version}" == version
    (dataset,), _ = DatasetRecords(database).page(owner="local", limit=10)
    assert store.get_bytes(layout.dataset_archive(dataset.sha256)) == b"golden"
    assert PriorRecords(database).default_for("nas_bench_201", owner="local") == "golden-v1"
    assert store.get_bytes("priors/golden-v1/card.json") == b"{}"

    num_there: list[int] = []
    for _ in range(2):
        again = back_up(database, store, tmp_path / "backup", tell=lambda told: num_there.append(told.num_there))
    database.close()

    assert again.format_version == 2
    assert num_there == [0, 0, 1, 2], "what no version is known of is copied once more"
