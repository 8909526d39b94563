"""The job of an attempt: where its data and its checkpoints come from, and how it ends."""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image

from search_spaces.errors import InvalidOptionError
from workers.contracts.adaptations import Failure
from workers.contracts.artifacts import MANIFEST
from workers.contracts.errors import ObjectMissingError
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import (
    DatasetChoice,
    MetaAttemptRequest,
    MetaDataset,
    MetaEvents,
    MetaManifest,
    MetaProgress,
    MetaRunRequest,
)
from workers.meta.job import StoredData, main, open_checkpoints
from workers.meta.learning.state import MetaState
from workers.meta.mailbox import EVENTS, PROGRESS
from workers.priors.registry import PriorRegistry
from workers.store import layout
from workers.store.open import open_store
from workers.store.protocol import Store
from workers.tasks.archive import check_archive
from workers.tasks.limits import ArchiveLimits
from workers.tasks.node_cache import FOLDER_VARIABLE

RUN = "mr_1"
KEY = layout.meta_attempt(RUN, 1)
CLASSES, NUM_EACH, SIDE = ("a", "b", "c", "d"), 12, 8


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store((tmp_path / "store").as_uri(), create=True)


@pytest.fixture
def dataset(store: Store, tmp_path: Path) -> MetaDataset:
    """Images of noise, in four classes, checked and stored."""
    generator, path = np.random.default_rng(0), tmp_path / "letters.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in CLASSES:
            for number in range(NUM_EACH):
                buffer = io.BytesIO()
                Image.fromarray(generator.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(buffer, "PNG")
                archive.writestr(f"{name}/{number}.png", buffer.getvalue())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    made = MetaDataset(
        dataset_id="ds_1",
        name="letters",
        sha256=sha256,
        archive_key=layout.dataset_archive(sha256),
        report_key=layout.dataset_report(sha256),
        meta_train=CLASSES,
    )
    store.put_file(made.archive_key, path)
    store.put_bytes(made.report_key, check_archive(path, ArchiveLimits()).report.model_dump_json().encode())
    return made


@pytest.fixture
def ask(store: Store, dataset: MetaDataset, short_config: MetaConfig) -> Callable[..., MetaAttemptRequest]:
    """Stores what an attempt is asked to do."""

    def stored(**asked: object) -> MetaAttemptRequest:
        choices = (DatasetChoice(dataset_id=dataset.dataset_id),)
        request = MetaRunRequest.model_validate(
            {"datasets": choices, "config": short_config, "max_workers": 1, "use_gpu": False, **asked}
        )
        made = MetaAttemptRequest(meta_run_id=RUN, attempt=1, request=request, datasets=(dataset,), prior_id="p")
        store.put_bytes(f"{KEY}/request.json", made.model_dump_json().encode())
        return made

    return stored


def test_a_run_reads_its_images_wherever_it_is_sent_and_once_on_a_node(
    store: Store,
    dataset: MetaDataset,
    ask: Callable[..., MetaAttemptRequest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    load = StoredData(store_url=store.url, request=ask())
    data = pickle.loads(pickle.dumps(load))()
    assert data.meta_train.class_names == CLASSES
    assert tuple(data.meta_train.images.shape) == (len(CLASSES) * NUM_EACH, SIDE, SIDE, 3)
    assert data.meta_validation is None
    assert [item.name for item in data.learned_from] == ["letters"]
    store.delete(dataset.archive_key)
    assert load().meta_train.images.equal(data.meta_train.images)


def test_without_a_place_of_its_own_the_cache_lies_beside_other_temporary_files(
    store: Store, ask: Callable[..., MetaAttemptRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    StoredData(store_url=store.url, request=ask())()
    assert list((tmp_path / "archprior-cache").glob("images-*"))


def test_images_are_kept_at_the_largest_side_of_the_run(
    store: Store,
    short_config: MetaConfig,
    ask: Callable[..., MetaAttemptRequest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    sizes = {"resolutions": (16, 8), "resolution_weights": (0.5, 0.5)}
    config = MetaConfig.model_validate({**short_config.model_dump(), **sizes})
    data = StoredData(store_url=store.url, request=ask(config=config))()
    assert data.meta_train.images.shape[1] == 16


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_checkpoints_of_a_run_are_found_by_its_id(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, short_config: MetaConfig
) -> None:
    if kind == "s3":
        request.getfixturevalue("s3_environment")
    url = {"folder": (tmp_path / "store").as_uri(), "s3": "s3://checkpoints-of-a-run/teams/red"}[kind]
    store = open_store(url, create=True)
    open_checkpoints(url, RUN).save(MetaState(short_config, CLASSES), [], ())
    assert open_checkpoints(url, RUN).steps() == (0,)
    assert open_checkpoints(url, "mr_2").steps() == ()
    assert all(item.key.startswith(f"{layout.checkpoints(RUN)}/") for item in store.list(""))


def test_an_attempt_that_nobody_asked_for_is_told_before_ray_is_looked_for(store: Store) -> None:
    with pytest.raises(ObjectMissingError) as caught:
        main(["--store", store.url, "--attempt", KEY])
    assert caught.value.got == f"{KEY}/request.json"
    assert not ray.is_initialized()


def test_an_address_that_is_no_store_is_told_at_once() -> None:
    with pytest.raises(InvalidOptionError, match="not the address of a store"):
        main(["--store", "ftp://somewhere", "--attempt", KEY])


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a running Ray."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@dataclass(frozen=True)
class Ended:
    status: int
    log: str


@pytest.fixture
def run_job(store: Store, cluster: str, tmp_path: Path) -> Callable[[], Ended]:
    """Runs the attempt that was asked for as Ray does: a process that finds its Ray in the environment."""
    environment = os.environ | {"RAY_ADDRESS": cluster, FOLDER_VARIABLE: str(tmp_path / "cache")}
    command = [sys.executable, "-m", "workers.meta.job", "--store", store.url, "--attempt", KEY]

    def run() -> Ended:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        return Ended(status=ended.returncode, log=ended.stderr)

    return run


@pytest.mark.slow
@pytest.mark.alone
def test_a_job_leaves_a_manifest_a_prior_and_what_happened(
    store: Store, ask: Callable[..., MetaAttemptRequest], run_job: Callable[[], Ended]
) -> None:
    ask()
    ended = run_job()
    assert ended.status == 0, ended.log
    manifest = MetaManifest.model_validate_json(store.get_bytes(f"{KEY}/{MANIFEST}"))
    assert (manifest.prior_id, manifest.complete, manifest.step) == ("p", True, 6)
    assert PriorRegistry(store).card("p").num_steps == 6
    assert open_checkpoints(store.url, RUN).steps()[-1] == 6
    progress = MetaProgress.model_validate_json(store.get_bytes(f"{KEY}/{PROGRESS}"))
    assert (progress.phase, progress.step, progress.fraction) == ("done", 6, 1.0)
    events = MetaEvents.model_validate_json(store.get_bytes(f"{KEY}/{EVENTS}")).events
    assert events[-1].message == "done"
    assert store.size(f"{KEY}/failure.json") is None


@pytest.mark.slow
@pytest.mark.alone
def test_what_its_user_can_mend_ends_a_job_with_a_failure_by_name(
    store: Store, ask: Callable[..., MetaAttemptRequest], run_job: Callable[[], Ended]
) -> None:
    ask(parent="ghost")
    ended = run_job()
    assert ended.status == 0, ended.log
    failure = Failure.model_validate_json(store.get_bytes(f"{KEY}/failure.json"))
    assert (failure.code, failure.got) == ("unknown_name", "ghost")
    assert store.size(f"{KEY}/{MANIFEST}") is None


@pytest.mark.slow
@pytest.mark.alone
def test_what_may_be_back_for_the_next_attempt_ends_a_job_with_status_1_and_no_failure(
    store: Store,
    dataset: MetaDataset,
    ask: Callable[..., MetaAttemptRequest],
    run_job: Callable[[], Ended],
) -> None:
    ask()
    store.delete(dataset.archive_key)
    ended = run_job()
    assert ended.status == 1, ended.log
    assert store.size(f"{KEY}/failure.json") is None
    assert store.size(f"{KEY}/{MANIFEST}") is None
    assert f"attempt {KEY} ends, its last checkpoint is whole" in ended.log
