"""From the store to the device: once per node, and by another way where the node's cache fails."""

import errno
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from workers.adapt import staging
from workers.adapt.data import TaskData
from workers.adapt.staging import read_report, stage
from workers.contracts.adaptations import AttemptRequest
from workers.contracts.errors import InvalidDatasetError, ObjectMissingError
from workers.store.folder import FolderStore
from workers.tasks.node_cache import BYTES_VARIABLE, FOLDER_VARIABLE

MakeAttempt = Callable[..., str]
Stage = Callable[..., TaskData]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the node's cache, still empty."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def attempt(store: FolderStore, make_attempt: MakeAttempt) -> AttemptRequest:
    return AttemptRequest.model_validate_json(store.get_bytes(f"{make_attempt()}/request.json"))


@pytest.fixture
def stage_at(store: FolderStore, attempt: AttemptRequest) -> Stage:
    report = read_report(store, attempt)

    def stage_now(resolution: int = 8, **changes: object) -> TaskData:
        changed = attempt.model_copy(update=changes)
        return stage(store, changed, report, resolution, torch.device("cpu"))

    return stage_now


def folders(cache: Path) -> list[Path]:
    return sorted(cache.glob("dataset-*"))


def test_a_second_adaptation_neither_fetches_nor_decodes(
    store: FolderStore, attempt: AttemptRequest, stage_at: Stage, cache: Path
) -> None:
    cold = stage_at()
    [made] = folders(cache)
    store.delete(attempt.dataset_key)

    warm = stage_at()

    assert folders(cache) == [made]
    assert sorted(path.name for path in made.iterdir()) == ["images.npy", "labels.npy"]
    assert warm.sizes == cold.sizes
    for part in ("support", "query", "test"):
        assert torch.equal(getattr(warm, part).images, getattr(cold, part).images)
        assert torch.equal(getattr(warm, part).labels, getattr(cold, part).labels)


def test_nothing_is_taken_for_another_resolution_or_dataset(
    store: FolderStore, attempt: AttemptRequest, stage_at: Stage, cache: Path
) -> None:
    stage_at(8)
    assert stage_at(16).resolution == 16
    assert len(folders(cache)) == 2
    store.delete(attempt.dataset_key)

    with pytest.raises(ObjectMissingError):
        stage_at(8, dataset_sha256="1" * 64)


def test_an_archive_with_other_bytes_than_were_checked_is_refused_and_not_kept(
    store: FolderStore, attempt: AttemptRequest, stage_at: Stage, cache: Path
) -> None:
    store.put_bytes(attempt.dataset_key, store.get_bytes(attempt.dataset_key) + b"x")

    with pytest.raises(InvalidDatasetError, match="not the one that was checked"):
        stage_at()

    assert folders(cache) == []


def test_of_two_adaptations_at_once_one_fetches(
    store: FolderStore, stage_at: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    get_file = store.get_file

    def counted(key: str, path: Path) -> None:
        fetched.append(key)
        get_file(key, path)

    monkeypatch.setattr(store, "get_file", counted)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(stage_at, (8, 8))

    assert len(fetched) == 1
    assert torch.equal(first.support.images, second.support.images)


@pytest.mark.parametrize("trouble", ["no folder", "disk full", "damaged"])
def test_where_the_cache_fails_the_images_are_decoded_into_memory(
    trouble: str, stage_at: Stage, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    expected = stage_at(8)
    if trouble == "no folder":
        monkeypatch.setenv(FOLDER_VARIABLE, "/dev/null/cache")
    elif trouble == "disk full":
        monkeypatch.setattr(staging, "write_labeled", full)
        monkeypatch.setenv(FOLDER_VARIABLE, str(cache / "other"))
    else:
        (folders(cache)[0] / "images.npy").write_bytes(b"\x93NUMPY")

    with caplog.at_level(logging.WARNING):
        data = stage_at(8)

    assert torch.equal(data.support.images, expected.support.images)
    assert "decoded into memory" in caplog.text


def test_what_nobody_uses_any_more_makes_room(stage_at: Stage, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BYTES_VARIABLE, "1")
    stage_at(8)
    [first] = folders(cache)

    stage_at(16)

    [second] = folders(cache)
    assert second != first


def test_the_split_depends_on_the_seed_and_the_data_and_on_nothing_else_that_is_asked(
    attempt: AttemptRequest, stage_at: Stage
) -> None:
    """What two arms of a comparison make of one seed is paired: the same images to learn from, in the same order."""
    cell = "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    arms = (
        {},
        {"search": "random", "budget_s": 400.0},
        {"search": "given", "architecture": cell, "prior": "nas_bench_201-v4"},
        {"max_params": 100_000, "num_workers": 2, "name": "other"},
    )

    def staged(**asked: object) -> TaskData:
        return stage_at(request=attempt.request.model_copy(update=asked))

    first, *others = [staged(seed=3, **arm) for arm in arms]

    for other in others:
        for name in ("support", "query", "test"):
            assert torch.equal(getattr(first, name).images, getattr(other, name).images), name
            assert torch.equal(getattr(first, name).labels, getattr(other, name).labels), name
    assert not torch.equal(first.support.images, staged(seed=4).support.images)
