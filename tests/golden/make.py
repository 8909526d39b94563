"""What is stored, as this version writes it: `python tests/golden/make.py tests/golden/v1` from the repository's root.

Runs the real code on a made-up dataset: the archive check, four steps of meta-learning with a checkpoint, an adaptation
from the prior that came of them, the memory of a local Ray, and a backup of a few records and objects. The folder is
then read by `test_golden_files.py`.
"""

import hashlib
import io
import json
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from search_spaces.standalone.predict import Classifier, find_images
from service.housekeeping.backup import back_up
from service.ray.process import RayProcess
from service.records.database import Database
from service.records.datasets import DatasetRecords
from service.records.priors import PriorRecords
from workers.adapt.attempt import run_attempt
from workers.adapt.sync import Group
from workers.contracts.adaptations import AdaptationRequest, AttemptRequest
from workers.contracts.datasets import DatasetReport
from workers.contracts.meta_config import MetaConfig
from workers.contracts.priors import LearnedFrom, MacroSpec
from workers.meta.checkpoints import Checkpoints
from workers.meta.finish import Origin, write_prior
from workers.meta.learning.log import read_log
from workers.meta.learning.loop import LOG, meta_train
from workers.priors.registry import CARD, TENSORS
from workers.store import layout
from workers.store.folder import FolderStore
from workers.tasks.archive import check_archive
from workers.tasks.distribution import ClassImages
from workers.tasks.limits import ArchiveLimits
from workers.tasks.sources import load_source

CLASSES = ("blue", "green", "red")
ADAPTATION, PRIOR, RUN = "ad-golden000001", "golden-v1", "mr-golden000001"


def archive() -> bytes:
    """Twelve noisy squares of each color; one image is there twice."""
    generator = np.random.default_rng(0)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for channel, name in zip((2, 1, 0), CLASSES, strict=True):
            for number in range(12):
                pixels = generator.integers(0, 120, (8, 8, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                png = io.BytesIO()
                Image.fromarray(pixels).save(png, "PNG")
                made.writestr(f"{name}/{number:02d}.png", png.getvalue())
        made.writestr("red/again.png", made.read("red/00.png"))
    return buffer.getvalue()


def put_dataset(store: FolderStore, data: bytes, path: Path) -> str:
    """Check the archive and store what an upload stores; return its hash."""
    sha256 = hashlib.sha256(data).hexdigest()
    checked = check_archive(path, ArchiveLimits())
    assert checked.thumbnails is not None
    store.put_bytes(layout.dataset_archive(sha256), data)
    store.put_bytes(layout.dataset_report(sha256), checked.report.model_dump_json().encode())
    store.put_bytes(layout.dataset_findings(sha256), checked.findings.model_dump_json().encode())
    store.put_bytes(layout.dataset_thumbnails(sha256), checked.thumbnails)
    return sha256


def put_prior(store: FolderStore, path: Path, sha256: str, out: Path) -> None:
    """Learn for four steps; store the checkpoint and the prior."""
    config = MetaConfig(
        search_space="nas_bench_201",
        macro=MacroSpec(num_channels=2, num_cells=1),
        num_steps=4,
        warmup_steps=1,
        joint_steps=2,
        resolutions=(16,),
        resolution_weights=(1.0,),
        min_ways=2,
        max_ways=3,
        joint_batch=8,
        num_support=8,
        num_query=8,
        lr_rise_steps=1,
        checkpoint_every=2,
    )
    state = meta_train(config, ClassImages.from_labeled(load_source(path, 16)), None, out)
    entries = read_log((out / LOG).read_text().splitlines())
    Checkpoints(store, layout.checkpoints(RUN)).save(state, entries, ())
    learned_from = LearnedFrom(name="colors", sha256=sha256, terms="made for tests", classes=CLASSES)
    origin = Origin(command="python tests/golden/make.py", data=[learned_from])
    write_prior(state.prior, config, entries, out, prior_id=PRIOR, origin=origin)
    for name in (TENSORS, CARD):
        store.put_file(f"{layout.prior(PRIOR)}/{name}", out / name)


def put_adaptation(store: FolderStore, sha256: str) -> None:
    """Adapt the prior to the dataset; store all that the job leaves."""
    request = AdaptationRequest(
        dataset_id="ds-golden000001", prior=PRIOR, budget_s=12.0, num_workers=0, resolution=16, max_params=4_000
    )
    attempt = AttemptRequest(
        adaptation_id=ADAPTATION,
        attempt=1,
        request=request,
        dataset_key=layout.dataset_archive(sha256),
        dataset_sha256=sha256,
    )
    key = layout.attempt(ADAPTATION, 1)
    store.put_bytes(f"{key}/request.json", attempt.model_dump_json().encode())
    run_attempt(store, key, Group(), torch.device("cpu"))


def put_backup(target: Path) -> None:
    """Back up a dataset, a promoted prior, and two objects."""
    sha256 = hashlib.sha256(b"golden").hexdigest()
    with tempfile.TemporaryDirectory() as made:
        database = Database(f"sqlite:///{made}/records.sqlite3")
        database.migrate()
        report = DatasetReport(
            classes=CLASSES, num_images=(4, 4, 4), median_size=8, min_size=8, max_size=8, modes={"RGB": 12}
        )
        DatasetRecords(database).add(name="colors", sha256=sha256, num_bytes=6, report=report, owner="local")
        priors = PriorRecords(database)
        priors.add(PRIOR, owner="local", search_space="nas_bench_201")
        priors.promote(PRIOR, search_space="nas_bench_201", owner="local")
        store = FolderStore(Path(made) / "objects", create=True)
        store.put_bytes(layout.dataset_archive(sha256), b"golden")
        store.put_bytes(f"{layout.prior(PRIOR)}/{CARD}", b"{}")
        back_up(database, store, target, tell=lambda _: None)
        database.close()


def main(target: Path) -> None:
    """Write everything into an empty folder."""
    torch.set_num_threads(1)
    store = FolderStore(target / "store", create=True)
    data = archive()
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "colors.zip"
        path.write_bytes(data)
        sha256 = put_dataset(store, data, path)
        put_prior(store, path, sha256, Path(made) / "out")
        put_adaptation(store, sha256)
        with zipfile.ZipFile(path) as images:
            images.extractall(made, [f"{name}/00.png" for name in CLASSES])
        bundle = target / "store" / layout.attempt(ADAPTATION, 1)
        found = Classifier(bundle).predict(find_images([Path(made) / name for name in CLASSES]), top=len(CLASSES))
        expected = [{label: round(probability, 6) for label, probability in one.top} for one in found]
    put_backup(target / "backup")
    (target / "predictions.json").write_text(json.dumps(expected, indent=1))
    folder = Path("/tmp/archprior-ray-golden")
    RayProcess(
        pid=4_000_001,
        mark="golden-boot/12345",
        dashboard_url="http://127.0.0.1:8265",
        agent_url="http://127.0.0.1:52365",
        folder=folder,
        token_file=folder / "token",
    ).remember(target / "ray.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
