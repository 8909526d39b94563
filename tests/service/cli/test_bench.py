"""`archprior bench` with an executor that executes nothing: what it refuses, what it tells, what it leaves."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import Result

from tests.workers.bench.made_up import CELL, FakeExecutor, outcome_of, write_colors
from workers.bench.folder import BenchFolder
from workers.bench.records import Order, Outcome
from workers.contracts.adaptations import Failure

RunCli = Callable[..., Result]
DATASETS = {"images": {"path": "images.zip"}}
ARMS = {
    "adapted": {},
    "fresh": {"search": "given", "prior": "none", "architecture": {"architecture_of": "adapted"}},
    "fixed": {"search": "given", "architecture": CELL},
}


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> FakeExecutor:
    """What the command executes with: the fixed arm fails on seed 1."""

    def outcome(order: Order) -> Outcome | Failure:
        if (order.run.arm, order.run.seed) == ("fixed", 1):
            return Failure(code="error", what="it broke\x1b[31m")
        return outcome_of(accuracy=0.9 - 0.2 * (order.run.arm == "fresh") - 0.1 * order.run.seed)

    fake = FakeExecutor(outcome)

    @contextmanager
    def executing(*_: object) -> Iterator[FakeExecutor]:
        yield fake

    monkeypatch.setattr("service.cli.bench._executor", executing)
    return fake


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    """A suite beside whose file its dataset lies."""
    write_colors(tmp_path / "images.zip")
    document = {
        "name": "small",
        "reference": "adapted",
        "seeds": [0, 1],
        "budgets_s": [10],
        "datasets": DATASETS,
        "arms": ARMS,
    }
    path = tmp_path / "suite.json"
    path.write_text(json.dumps(document))
    return path


def test_the_table_tells_means_and_paired_differences_and_the_file_has_every_run(
    run_cli: RunCli, executor: FakeExecutor, suite_file: Path, tmp_path: Path
) -> None:
    done = run_cli("bench", suite_file, "--out", tmp_path / "out", "--workers", 2)

    assert done.exit_code == 1  # one run has failed
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["adapted", "10", "85.0", "±", "5.0"] in lines
    assert ["fresh", "10", "65.0", "±", "5.0"] in lines
    assert ["fixed", "10", "90.0"] in lines
    assert ["fresh", "10", "adapted", *(["20.0", "(20.0", "to", "20.0)"] * 2)] in lines
    assert "failed: images fixed seed 1 10 s: it broke" in done.stderr
    assert "\x1b" not in done.stderr
    assert re.search(r"\[\d/6\] images fixed seed 1 10 s: failed: it broke \(ETA 0:00:\d\d\)", done.stderr)
    assert re.search(r"\[6/6\] images .*\(ETA 0:00:00\)", done.stderr)
    assert executor.most_at_once == 2
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["benchmark"], results["num_runs"], results["num_failed"]) == ("small", 6, 1)
    assert results["machine"]["cpus"] >= 1
    assert results["versions"]["torch"]
    assert len(results["runs"]) == 6


def test_json_is_one_line_without_the_runs(
    run_cli: RunCli, last_json: Callable[[Result], object], executor: FakeExecutor, suite_file: Path, tmp_path: Path
) -> None:
    done = run_cli("bench", suite_file, "--out", tmp_path / "out", "--only-arm", "fresh", "--only-seed", 1, "--json")

    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 1
    document = last_json(done)
    assert (document["num_runs"], document["complete"]) == (2, True)
    assert executor.keys == ["images.adapted.s1.b10", "images.fresh.s1.b10"]


def test_the_same_command_goes_on_and_runs_what_failed_only_when_asked(
    run_cli: RunCli, executor: FakeExecutor, suite_file: Path, tmp_path: Path
) -> None:
    command = ("bench", suite_file, "--out", tmp_path / "out")
    run_cli(*command)
    assert len(executor.started) == 6

    again = run_cli(*command)
    assert (again.exit_code, len(executor.started)) == (1, 6)
    assert "6 of 6 runs are there" in again.stderr
    run_cli(*command, "--retry")
    assert executor.keys[6:] == ["images.fixed.s1.b10"]


def test_what_was_there_when_it_is_interrupted_is_in_the_results(
    run_cli: RunCli, executor: FakeExecutor, suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = executor.next_ended

    def stopped() -> object:
        if len(executor.started) == 3:
            raise KeyboardInterrupt
        return honest()

    monkeypatch.setattr(executor, "next_ended", stopped)
    done = run_cli("bench", suite_file, "--out", tmp_path / "out", "--workers", 1)

    assert done.exit_code != 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (len(results["runs"]), results["complete"]) == (2, False)


def test_a_folder_in_which_another_benchmark_runs_is_refused(
    run_cli: RunCli, executor: FakeExecutor, suite_file: Path, tmp_path: Path
) -> None:
    with BenchFolder(tmp_path / "out").claimed():
        done = run_cli("bench", suite_file, "--out", tmp_path / "out")

    assert (done.exit_code, executor.started) == (1, [])
    assert "error: a benchmark runs in this folder" in done.stderr


@pytest.mark.parametrize(
    ("changes", "options", "told"),
    [
        ({"arms": {**ARMS, "own": {"prior": "./missing"}}}, (), "no prior in this folder"),
        ({"arms": {**ARMS, "tiny": {"max_macs": 9}}}, (), "max_macs: no architecture of nas_bench_201 is that small"),
        ({"arms": {"adapted": {}, "b": {"search": "given", "architecture": "|x|"}}}, (), "nas_bench_201 cell"),
        ({"reference": "best"}, (), "reference names 'best'"),
        ({"seeds": [-1]}, (), "seeds.0: Input should be greater than or equal to 0"),
        ({"schema_version": 2}, (), "written by a newer ArchPrior"),
        ({"datasets": {"images": {"path": "pets.zip"}}}, (), "no such dataset"),
        ({}, ("--only-dataset", "pets"), "unknown dataset of the suite: got 'pets'; expected one of images"),
        (
            {"arms": {**ARMS, "b": {"datasets": ["other"]}}, "datasets": {**DATASETS, "other": DATASETS["images"]}},
            ("--only-arm", "b", "--only-dataset", "images"),
            "no run is wanted",
        ),
        ({}, ("--workers", 0), "--workers"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(
    run_cli: RunCli,
    executor: FakeExecutor,
    suite_file: Path,
    tmp_path: Path,
    changes: dict[str, object],
    options: tuple[object, ...],
    told: str,
) -> None:
    suite_file.write_text(json.dumps({**json.loads(suite_file.read_text()), **changes}))

    done = run_cli("bench", suite_file, "--out", tmp_path / "out", *options)

    assert done.exit_code in {1, 2}
    assert told in done.stderr
    assert "Traceback" not in done.output
    assert executor.started == []
    assert not (tmp_path / "out" / "results.json").exists()


def test_results_go_to_a_file_only_when_every_run_of_the_suite_has_an_outcome(
    run_cli: RunCli, executor: FakeExecutor, suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "results" / "small.json"
    command = ("bench", suite_file, "--out", tmp_path / "out", "--results", kept)

    for options, told in ((("--only-seed", 0), "3 of the suite's 6"), ((), "5 of the suite's 6")):  # one run fails
        assert f"{kept} is left as it was: {told} runs" in run_cli(*command, *options).stderr
        assert not kept.exists()
    monkeypatch.setattr(executor, "_outcome", lambda _: outcome_of())
    assert run_cli(*command, "--retry").exit_code == 0
    whole = kept.read_text()
    assert len(json.loads(whole)["runs"]) == 6

    assert run_cli(*command, "--only-seed", 0).exit_code == 0
    assert kept.read_text() == whole


def test_a_file_that_is_no_suite_is_refused(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "suite.json").write_text("[]")
    for name, told in (("suite.json", "cannot be used"), ("missing.json", "no such suite")):
        done = run_cli("bench", tmp_path / name, "--out", tmp_path / "out")
        assert done.exit_code == 2
        assert told in done.stderr
