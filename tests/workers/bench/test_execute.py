"""A run is a whole adaptation, in this process."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from search_spaces.errors import InvalidArchitectureError
from tests.workers.bench.made_up import CELL
from workers.bench import execute as module
from workers.bench.execute import execute
from workers.bench.folder import BenchFolder
from workers.bench.records import Order
from workers.bench.runs import chosen_runs
from workers.bench.stock import Stock, stock
from workers.bench.suite import Suite
from workers.store import layout
from workers.store.folder import FolderStore


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def store(folder: BenchFolder) -> FolderStore:
    return FolderStore(Path(folder.store_url), create=True)


@pytest.fixture
def stocked(store: FolderStore, suite: Suite, data: Path) -> Stock:
    return stock(store, suite, chosen_runs(suite, datasets=["colors"]), data)


@pytest.fixture
def order(suite: Suite, stocked: Stock) -> Order:
    run = next(run for run in chosen_runs(suite) if (run.dataset, run.arm) == ("colors", "fixed"))
    return stocked.order(suite, run, architecture=CELL, threads=1)


def test_a_run_measures_the_network_that_the_service_would_export(
    folder: BenchFolder, store: FolderStore, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = []
    honest = module.run_attempt
    key = layout.attempt(order.run.key, 1)
    store.put_bytes(f"{key}/manifest.json", b"of a run that was killed")

    def watched(*arguments: object) -> object:
        staged.append(sorted(item.key.rpartition("/")[2] for item in store.list(f"{key}/")))
        return honest(*arguments)

    monkeypatch.setattr(module, "run_attempt", watched)

    begun_s = time.monotonic()
    outcome = execute(folder.store_url, order)

    assert staged == [["request.json"]]
    assert outcome.architecture == CELL
    assert outcome.num_train + outcome.num_query + outcome.num_test == 120
    assert 0 <= outcome.accuracy <= 1
    assert outcome.query_accuracy is not None
    assert outcome.nll is not None
    assert outcome.calibration_error is not None
    assert outcome.timings_s["total"] < outcome.wall_s < time.monotonic() - begun_s + 0.01  # decoding included
    assert torch.get_num_threads() == 1
    # The networks are gone: hundreds of runs would fill a disk.
    kept = sorted(item.key.rpartition("/")[2] for item in store.list(f"{key}/"))
    assert kept == ["metrics.json", "plan.json", "request.json"]


def test_the_first_run_on_a_dataset_does_not_pay_for_its_decoding(
    folder: BenchFolder, order: Order, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ARCHPRIOR_CACHE_DIR", str(tmp_path / "cache"))
    decoded = []

    def stop(*_: object) -> None:
        decoded.append(len(list((tmp_path / "cache").glob("dataset-*"))))
        raise InvalidArchitectureError("stop here")

    monkeypatch.setattr(module, "run_attempt", stop)
    with pytest.raises(InvalidArchitectureError):
        execute(folder.store_url, order)
    assert decoded == [1]
