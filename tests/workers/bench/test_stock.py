"""Datasets and priors come into the store by content, and what could not end well is refused before anything runs."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces.errors import ArchPriorError, InvalidOptionError, UnknownNameError
from workers.bench.folder import BenchFolder
from workers.bench.runs import chosen_runs
from workers.bench.stock import check, put_dataset, put_prior, stock
from workers.bench.suite import DatasetSpec, Suite
from workers.contracts.errors import InvalidDatasetError, InvalidPriorError, LimitUnreachableError
from workers.priors.registry import CARD, DEFAULTS, TENSORS, PriorRegistry, bundled_folder
from workers.store import layout
from workers.store.folder import FolderStore

MakeSuite = Callable[..., Suite]
BUNDLED = DEFAULTS["nas_bench_201"]


@pytest.fixture
def store(folder: BenchFolder) -> FolderStore:
    return FolderStore(Path(folder.store_url), create=True)


@pytest.fixture
def own_prior(tmp_path: Path) -> Path:
    """A copy of the bundled prior, in a folder."""
    return Path(shutil.copytree(bundled_folder() / BUNDLED, tmp_path / "own"))


def test_a_zip_is_stored_as_it_is_and_once(store: FolderStore, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = put_dataset(store, DatasetSpec(path="colors.zip"), data)

    assert store.get_bytes(layout.dataset_archive(first.sha256)) == (data / "colors.zip").read_bytes()
    assert first.report.total_images == 120
    monkeypatch.setattr("workers.bench.stock.run_check", None)  # a second check would call it
    assert put_dataset(store, DatasetSpec(path="colors.zip"), data) == first


def test_a_dataset_is_thinned_out_by_class_and_split_and_the_same_each_time(store: FolderStore, data: Path) -> None:
    spec = DatasetSpec(path="shades.zip", max_images=60)

    thin = put_dataset(store, spec, data)

    assert (thin.report.num_images, thin.report.splits) == ((20, 20, 20), {"train": 30, "test": 30})
    assert put_dataset(store, spec, data).sha256 == thin.sha256
    merged = put_dataset(store, DatasetSpec(path="shades.zip", keep_split=False), data)
    assert (merged.report.num_images, merged.report.splits) == ((80, 80, 80), {})


def test_a_prior_of_a_folder_is_stored_under_a_name_that_card_and_tensors_decide(
    store: FolderStore, own_prior: Path, tmp_path: Path
) -> None:
    card = put_prior(store, "./own", "nas_bench_201", tmp_path)

    assert card is not None
    assert card.id.startswith(f"{BUNDLED}-")
    assert len(card.id) == len(BUNDLED) + 1 + 12
    fetched = PriorRegistry(store).fetch(card.id, tmp_path)
    assert fetched.read_bytes() == (own_prior / TENSORS).read_bytes()


def test_the_same_tensors_with_another_card_are_another_prior(
    store: FolderStore, make_suite: MakeSuite, data: Path, own_prior: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(own_prior, tmp_path / "other"))
    card = json.loads((own_prior / CARD).read_text())
    card["macro"]["num_cells"] += 1
    (other / CARD).write_text(json.dumps(card))
    suite = make_suite(
        arms={"adapted": {"prior": str(own_prior)}, "b": {"prior": str(other)}},
        datasets={"colors": {"path": "colors.zip"}},
    )
    runs = chosen_runs(suite, seeds=[0])

    stocked = stock(store, suite, runs, data)

    ids = [stocked.order(suite, run, architecture=None, threads=1).request.prior for run in runs]
    assert len(set(ids)) == 2
    cells = [PriorRegistry(store).card(prior or "").macro.num_cells for prior in ids]
    assert cells == [card["macro"]["num_cells"] - 1, card["macro"]["num_cells"]]


def test_a_bundled_prior_with_another_card_makes_another_fingerprint(
    store: FolderStore, suite: Suite, data: Path
) -> None:
    (run, *_) = chosen_runs(suite, arms=["adapted"], seeds=[0])
    stocked = stock(store, suite, [run], data)
    card = stocked.priors["adapted"]
    assert card is not None
    changed = replace(stocked, priors={"adapted": card.model_copy(update={"resolutions": (8,)})})

    one, other = (found.order(suite, run, architecture=None, threads=1) for found in (stocked, changed))

    assert one.request == other.request
    assert one.fingerprint != other.fingerprint


def test_priors_are_bundled_or_the_spaces_own_or_none(store: FolderStore, tmp_path: Path) -> None:
    for name in (None, BUNDLED):
        card = put_prior(store, name, "nas_bench_201", tmp_path)
        assert card is not None
        assert card.id == BUNDLED
    assert put_prior(store, "none", "nas_bench_201", tmp_path) is None
    with pytest.raises(UnknownNameError, match=BUNDLED):
        put_prior(store, "other-v1", "nas_bench_201", tmp_path)


def test_a_prior_that_is_not_whole_is_refused(store: FolderStore, own_prior: Path, tmp_path: Path) -> None:
    (own_prior / TENSORS).write_bytes(b"other")
    with pytest.raises(InvalidPriorError, match="does not match its card"):
        put_prior(store, "./own", "nas_bench_201", tmp_path)
    (own_prior / CARD).unlink()
    with pytest.raises(InvalidOptionError, match=r"no prior in this folder.*Make it first"):
        put_prior(store, "./own", "nas_bench_201", tmp_path)


def test_what_lies_nowhere_or_is_no_dataset_is_refused(store: FolderStore, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError, match="no such dataset"):
        put_dataset(store, DatasetSpec(path="pets.zip"), data)
    (tmp_path / "notes.zip").write_text("hello")
    with pytest.raises(InvalidDatasetError):
        put_dataset(store, DatasetSpec(path="notes.zip"), tmp_path)


def test_only_what_the_runs_need_is_brought(store: FolderStore, make_suite: MakeSuite, data: Path) -> None:
    suite = make_suite(
        datasets={"colors": {"path": "colors.zip"}, "pets": {"path": "pets.zip"}},
        arms={"adapted": {}, "own": {"prior": "./missing"}},
    )
    stocked = stock(store, suite, chosen_runs(suite, datasets=["colors"], arms=["adapted"]), data)
    assert (stocked.datasets.keys(), stocked.priors.keys()) == ({"colors"}, {"adapted"})


def test_a_limit_that_cannot_be_met_is_refused_before_anything_runs(
    store: FolderStore, make_suite: MakeSuite, data: Path
) -> None:
    suite = make_suite(arms={"adapted": {}, "tiny": {"max_params": 10}}, datasets={"colors": {"path": "colors.zip"}})
    runs = chosen_runs(suite)
    stocked = stock(store, suite, runs, data)
    check(suite, [run for run in runs if run.arm == "adapted"], stocked)
    with pytest.raises(LimitUnreachableError, match="max_params"):
        check(suite, runs, stocked)


@pytest.mark.parametrize(
    ("arm", "error"),
    [
        ({"max_params": 10}, LimitUnreachableError),
        ({"max_macs": 10}, LimitUnreachableError),
        ({"search_space": "darts", "prior": BUNDLED}, InvalidPriorError),
    ],
)
def test_an_arm_that_waits_for_its_architecture_is_refused_before_anything_runs(
    store: FolderStore, make_suite: MakeSuite, data: Path, arm: dict[str, object], error: type[ArchPriorError]
) -> None:
    waiting = {"search": "given", "architecture": {"architecture_of": "adapted"}}
    space = {"search_space": arm.get("search_space", "nas_bench_201")}
    suite = make_suite(
        arms={"adapted": space, "whole": {**space, **waiting, "prior": "none"}, "b": {**waiting, **arm}},
        datasets={"colors": {"path": "colors.zip"}},
    )
    runs = chosen_runs(suite)
    stocked = stock(store, suite, runs, data)

    check(suite, [run for run in runs if run.arm != "b"], stocked)
    with pytest.raises(error):
        check(suite, runs, stocked)


def test_an_order_has_everything_that_decides_a_run_in_its_fingerprint(
    store: FolderStore, suite: Suite, data: Path, own_prior: Path
) -> None:
    runs = chosen_runs(suite, arms=["adapted"], seeds=[0])
    stocked = stock(store, suite, runs, data)

    def fingerprint(number: int = 0, *, architecture: str | None = None, threads: int = 1) -> str:
        return stocked.order(suite, runs[number], architecture=architecture, threads=threads).fingerprint

    found = [fingerprint(), fingerprint(1), fingerprint(threads=2)]
    assert len(set(found)) == 3
    assert fingerprint() == found[0]
    request = stocked.order(suite, runs[0], architecture=None, threads=1).request
    assert (request.num_workers, request.seed, request.budget_s, request.prior) == (0, 0, 10.0, BUNDLED)
    assert json.loads(request.model_dump_json())["dataset_id"] is None
