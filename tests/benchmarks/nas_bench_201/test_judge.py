"""Where cells stand among those within a cap."""

import json
from pathlib import Path

import pytest

from benchmarks.nas_bench_201.cells import cap_of, cells_within, digits_of
from benchmarks.nas_bench_201.job import Choice, Decision, Job
from benchmarks.nas_bench_201.judge import ORACLE, Judge, Standing, compare, summarize
from benchmarks.nas_bench_201.runs import Run
from benchmarks.nas_bench_201.table import LookupLog, Table
from search_spaces.errors import InvalidOptionError
from tests.benchmarks.nas_bench_201.conftest import COLUMN, OTHERS, write_table

CAP = cap_of(25)
# Of these the last is beyond the cap.
ACCURACIES = {"000100": 30.0, "000200": 50.0, "000300": 80.0, "111111": 60.0, "222222": 70.0, "333333": 99.0}


@pytest.fixture
def judge(tmp_path) -> Judge:
    rows = {digits: (accuracy, 100 - accuracy, accuracy) for digits, accuracy in ACCURACIES.items()}
    path = write_table(tmp_path / "table.csv", rows, (COLUMN, *OTHERS))
    return Judge(Table(path, LookupLog(tmp_path / "log")), COLUMN, after="all is decided")


def decided(tmp_path: Path, *cells: str) -> tuple[Run, Decision]:
    job = Job(arm="ours", max_macs=CAP.max_macs, seed=3, seconds=1, threads=1, images=tmp_path)
    decision = Decision(choice=Choice(cells=cells, num_judged=1), used_s=1, wall_s=1, cpu_s=1)
    path = tmp_path / "decision.json"
    path.write_text(decision.model_dump_json())
    return Run(job=job, cap=CAP, path=path), decision


def test_a_cell_stands_among_those_within_the_cap(judge, tmp_path) -> None:
    found = judge.stand(*decided(tmp_path, "111111"))

    assert (found.arm, found.cap, found.seed, found.accuracy) == ("ours", "25%", 3, 60.0)
    assert found.regret == 20.0
    # Two of five are better; the sixth is too large.
    assert found.top == 40.0


def test_the_best_has_no_regret(judge, tmp_path) -> None:
    found = judge.stand(*decided(tmp_path, "000300"))

    assert (found.regret, found.top) == (0.0, 0.0)


def test_tied_cells_are_judged_by_their_mean(judge, tmp_path) -> None:
    found = judge.stand(*decided(tmp_path, "000300", "000200"))

    assert (found.accuracy, found.regret, found.top) == (65.0, 15.0, 30.0)


@pytest.mark.parametrize(("cell", "match"), [("333333", "220119680 MACs"), ("000000", "no way through the cell")])
def test_a_cell_beyond_the_cap_is_refused(judge, tmp_path, cell, match) -> None:
    with pytest.raises(InvalidOptionError, match=match):
        judge.stand(*decided(tmp_path, cell))


def test_a_look_up_names_the_decision_before_it(judge, tmp_path) -> None:
    judge.stand(*decided(tmp_path, "111111"))

    first = json.loads((tmp_path / "log").read_text().splitlines()[0])
    assert first["asker"] == "ours"
    assert first["after"].startswith("decision.json ")


def test_an_oracle_takes_the_best_of_another_column_within_the_cap(judge) -> None:
    found = judge.oracle("cifar100", OTHERS[0], CAP)

    assert found.arm == f"{ORACLE}cifar100"
    assert found.cells == ("000100",)
    assert found.regret == 50.0


def test_the_field_is_all_within_the_cap(judge) -> None:
    assert judge.field(CAP) == {"num_cells": 5, "best": 80.0, "mean": 58.0, "worst": 30.0}


def standing(arm: str, regret: float, top: float = 0.0, seed: int = 0) -> Standing:
    return Standing(arm=arm, cap="25%", seed=seed, cells=("000100",), accuracy=90 - regret, regret=regret, top=top)


def test_a_summary_is_of_means_over_seeds() -> None:
    runs = [standing("ours", regret, top, seed) for seed, (regret, top) in enumerate([(1.0, 0.5), (3.0, 7.5)])]

    found = summarize([*runs, standing("most_params", 5.0, 20.0)])

    assert list(found) == ["ours", "most_params"]
    assert found["ours"].runs == 2
    assert found["ours"].regret == {"mean": 2.0, "low": 1.0, "high": 3.0}
    assert found["ours"].in_top == {5: True, 1: False}
    assert found["most_params"].in_top == {5: False, 1: False}


def test_ours_is_compared_with_the_best_of_the_others() -> None:
    runs = [
        standing("ours", 1.0),
        standing("ours", 2.0),
        standing("a", 4.0),
        standing("b", 3.0),
        standing(f"{ORACLE}x", 1.0),
    ]

    found = compare(runs, "ours")

    assert found["rivals"] == {"best": "b", "regret": 3.0, "ours_over_it": 0.5, "at_most_half": True}
    assert found["with_oracles"] == {"best": f"{ORACLE}x", "regret": 1.0, "ours_over_it": 1.5, "at_most_half": False}


def test_a_rival_without_regret_has_no_ratio() -> None:
    found = compare([standing("ours", 0.0), standing("a", 0.0)], "ours")

    assert found["rivals"] == {"best": "a", "regret": 0.0, "ours_over_it": None, "at_most_half": True}
    assert compare([standing("a", 1.0)], "ours") == {}


def test_the_space_has_cells_beyond_each_cap() -> None:
    assert "333333" not in {digits_of(cell) for cell in cells_within(CAP.max_macs)}
