"""The suites that are committed, and the datasets that they are run on."""

import shutil
import subprocess
import zipfile
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from benchmarks.domains import scripts
from benchmarks.domains.packages import Unpacked
from benchmarks.suites import data
from benchmarks.suites.data import DATASETS, SCRIPT, Sources, write
from search_spaces.errors import InvalidOptionError
from service.cli.bench import read_suite
from workers.bench.runs import chosen_runs, source_of
from workers.tasks.class_split import ClassSplit

ROOT = Path(__file__).parents[3]
SUITES = ROOT / "benchmarks" / "suites"


class FontPackages:
    """Two fonts of one script, which draw Latin letters."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def npm(self, name: str, version: str) -> Path:
        raise AssertionError(f"{name} {version} is not needed")

    def debian(self, name: str) -> Unpacked:
        folder = self._folder / name / scripts.FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        face = {"fonts-noto-core": "Sans", "fonts-noto-extra": "Serif"}[name]
        fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
        shutil.copy(fonts / f"DejaVu{face}.ttf", folder / f"Noto{face}{SCRIPT}-Regular.ttf")
        return Unpacked(version="1-1", root=self._folder / name)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """Small packed files in the form of the real ones."""
    domains, shared = tmp_path / "domains", tmp_path / "shared"
    shared.mkdir()
    generator = np.random.default_rng(0)

    def images(number: int) -> np.ndarray:
        return generator.integers(0, 256, (number, 8, 8, 3), dtype=np.uint8)

    for part, number in (("train", 60), ("test", 20)):
        labels = np.arange(number) % 10
        np.savez(shared / f"cifar10_{part}.npz", x=images(number), y=labels)
    for name, num_classes in (("imagenet32", 30), ("emoji", 12), ("scripts", 12), ("fashion_mnist", 10)):
        (domains / name).mkdir(parents=True)
        labels = np.arange(4 * num_classes) % num_classes
        classes = np.array([f"class {label}" for label in range(num_classes)])
        np.savez(domains / name / f"{name}.npz", x=images(len(labels)), y=labels, classes=classes)
        held_out = [f"class {label}" for label in range(5, num_classes)]
        split = {"meta_train": ["class 0"], "meta_test": [SCRIPT] if name == "scripts" else held_out}
        (domains / name / "split.json").write_text(str(split).replace("'", '"'))
    return Sources(domains=domains, shared=shared, packages=FontPackages(tmp_path / "packages"))


def counts(path: Path) -> Counter[str]:
    """Return the images of each folder of a zip."""
    with zipfile.ZipFile(path) as archive:
        return Counter(name.rpartition("/")[0] for name in archive.namelist())


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_is_the_same_bytes_twice(name: str, sources: Sources, tmp_path: Path) -> None:
    written = [write(name, sources, tmp_path / out) for out in ("one", "two")]

    assert written[0] == written[1] == sum(counts(tmp_path / "one" / f"{name}.zip").values())
    one, two = (tmp_path / out / f"{name}.zip" for out in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_classes_are_held_out_ones_and_splits_stay_where_they_are_the_datasets(
    sources: Sources, tmp_path: Path
) -> None:
    for name in ("cifar10", "imagenet32", "emoji"):
        write(name, sources, tmp_path)

    held_out = set(ClassSplit.read(sources.domains / "imagenet32" / "split.json").meta_test)
    chosen = counts(tmp_path / "imagenet32.zip")
    assert len(chosen) == 20
    assert chosen.keys() <= held_out
    assert counts(tmp_path / "emoji.zip") == {f"class {label}": 4 for label in range(5, 12)}
    assert counts(tmp_path / "cifar10.zip")["train/3"] == 6
    assert counts(tmp_path / "cifar10.zip")["test/3"] == 2


def test_the_letters_of_a_script_are_its_classes(sources: Sources, tmp_path: Path) -> None:
    write(SCRIPT.lower(), sources, tmp_path)

    found = counts(tmp_path / f"{SCRIPT.lower()}.zip")
    assert found["small letter a"] == found["capital letter a"] == 2  # in two fonts


def test_a_script_that_is_learned_from_is_refused(sources: Sources, tmp_path: Path) -> None:
    (sources.domains / "scripts" / "split.json").write_text('{"meta_train": ["class 0"], "meta_test": ["class 1"]}')
    with pytest.raises(InvalidOptionError, match="one of meta-test"):
        write(SCRIPT.lower(), sources, tmp_path)


def test_what_is_missing_is_told_and_the_rest_is_written(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "SHARED", tmp_path / "nowhere")
    options = ["--domains", str(sources.domains), "--only", "cifar10", "--only", "emoji"]
    monkeypatch.setattr("sys.argv", ["data", str(tmp_path / "out"), *options])

    assert data.main() == 1

    told = capsys.readouterr()
    assert "cifar10 is not written" in told.err
    assert "emoji.zip: 28 images" in told.out
    assert [path.name for path in (tmp_path / "out").glob("*.zip")] == ["emoji.zip"]


def test_the_suite_of_tasks_has_every_arm_on_every_dataset_in_five_seeds() -> None:
    suite, _ = read_suite(SUITES / "tasks.json")
    assert suite.datasets.keys() == DATASETS.keys()
    assert len(suite.seeds) >= 5
    crossed = {arm for arm in suite.arms if arm.startswith("cell_of_")}
    assert len(crossed) == len(suite.datasets)
    for arm in suite.arms.keys() - crossed:
        assert suite.datasets_of(arm) == tuple(suite.datasets)
    # The matrix: for each dataset, the cell of every other, on random weights.
    for run in chosen_runs(suite, arms=sorted(crossed), seeds=[0]):
        if run.arm in crossed:
            source = source_of(suite, run)
            assert source is not None
            assert (f"cell_of_{source.dataset}", source.arm) == (run.arm, "adapted")
            assert source.dataset != run.dataset
            assert suite.arms[run.arm].prior == "none"


def test_the_suite_of_anytime_compares_with_thirty_times_the_seconds() -> None:
    suite, _ = read_suite(SUITES / "anytime.json")
    shortest = min(suite.budgets_of("adapted"))
    assert [budget_s / shortest for budget_s in suite.budgets_of("scratch")] == [1, 3, 10, 30]
    assert [budget_s / shortest for budget_s in suite.budgets_of("scratch_longest")] == [100]


def test_the_suite_of_namesakes_differs_in_the_prior_alone() -> None:
    suite, _ = read_suite(SUITES / "namesakes.json")
    met, unmet = (suite.arms[name].model_dump(exclude={"about", "prior"}) for name in ("met", "unmet"))
    assert met == unmet
    assert suite.arms["met"].prior != suite.arms["unmet"].prior
    assert "cifar10" in suite.datasets


@pytest.mark.parametrize("target", ["bench-tasks", "bench-anytime", "bench-namesakes", "bench-task-gradients"])
def test_make_knows_the_command(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True)
    name = target.removeprefix("bench-")
    assert f"benchmarks/suites/{name}.json" in done.stdout or "benchmarks.meta_runs.task_gradients" in done.stdout


@pytest.mark.parametrize("name", ["tasks", "anytime", "namesakes"])
def test_make_learns_the_priors_that_a_suite_names(name: str) -> None:
    suite, _ = read_suite(SUITES / f"{name}.json")
    dry_run = ["make", "--dry-run", f"bench-{name}"]
    done = subprocess.run(dry_run, cwd=ROOT, capture_output=True, text=True, check=True)
    for prior in {arm.prior for arm in suite.arms.values() if arm.prior and "/" in arm.prior}:
        assert f"--out build/priors/{Path(prior).name} " in done.stdout
