"""Reading tables of accuracies, and the log of who looked up what."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.nas_bench_201.__main__ import DATA
from benchmarks.nas_bench_201.cells import SPACE, cell_of
from benchmarks.nas_bench_201.table import LookupLog, Table, check_column, other_datasets, read_columns
from search_spaces.errors import InvalidOptionError, UnknownNameError
from tests.benchmarks.nas_bench_201.conftest import COLUMN, OTHERS, write_table

REAL = DATA / "nasbench201_e12_val.csv.gz"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def opened(path: Path) -> Table:
    return Table(path, LookupLog(path.with_suffix(".log"), lambda: NOON))


def logged(path: Path) -> list[dict[str, object]]:
    log = path.with_suffix(".log")
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_accuracies_are_read_by_cell_and_column(tmp_path, name) -> None:
    columns = ("e200_cifar10-test", "e200_cifar100-test")
    path = write_table(tmp_path / name, {"421211": (93.5, 70), "000100": (80, "61.25")}, columns)

    table = opened(path)

    assert table.columns == columns == read_columns(path)
    cells = [cell_of("000100"), cell_of("421211")]
    assert table.accuracies(cells, "e200_cifar100-test", asker="a", after="b") == [61.25, 70.0]
    assert table.column("e200_cifar10-test", asker="a", after="b") == {cells[1]: 93.5, cells[0]: 80.0}


def test_each_look_is_logged_with_asker_and_decision(tmp_path) -> None:
    path = write_table(tmp_path / "table.csv", {"421211": (93.5,)})
    table = opened(path)
    assert logged(path) == []

    table.accuracies([cell_of("421211")], COLUMN, asker="ours", after="decision 7")
    table.column(COLUMN, asker="judge", after="all")

    at = "2026-01-01T12:00:00.000+00:00"
    assert logged(path) == [
        {"at": at, "asker": "ours", "after": "decision 7", "column": COLUMN, "ops": ["421211"]},
        {"at": at, "asker": "judge", "after": "all", "column": COLUMN, "ops": "all", "num_cells": 1},
    ]


def test_a_log_goes_on_where_it_ended(tmp_path) -> None:
    path = write_table(tmp_path / "table.csv", {"421211": (93.5,)})

    for asker in ("first", "second"):
        opened(path).column(COLUMN, asker=asker, after="all")

    assert [line["asker"] for line in logged(path)] == ["first", "second"]


def test_an_unknown_column_names_those_there_are(tmp_path) -> None:
    path = write_table(tmp_path / "table.csv", {"421211": (1, 2, 3)}, (COLUMN, *OTHERS))

    for ask in (
        lambda: check_column(path, read_columns(path), "e200_cifar10-test"),
        lambda: opened(path).column("e200_cifar10-test", asker="a", after="b"),
    ):
        with pytest.raises(UnknownNameError, match=f"one of {COLUMN}, {OTHERS[0]}, {OTHERS[1]}"):
            ask()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("index,ops,acc\n0,42121,93\n", "line 2 of .*'42121'"),
        ("index,ops,acc\n0,421211,93\n1,421211,93\n", "line 3 of .*each cell once"),
        ("index,cell,acc\n0,421211,93\n", "the columns of"),
        ("index,ops\n0,421211\n", "the columns of"),
        ("", "the columns of"),
    ],
)
def test_a_table_that_cannot_be_read_says_where(tmp_path, text, match) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)

    with pytest.raises(InvalidOptionError, match=match):
        opened(path)


@pytest.mark.parametrize("value", ["", "n/a", "nan", "-1", "100.1"])
def test_an_accuracy_that_is_none_is_refused_when_it_is_asked_for(tmp_path, value) -> None:
    table = opened(write_table(tmp_path / "table.csv", {"421211": (value, 50)}, (COLUMN, "other")))

    assert table.accuracies([cell_of("421211")], "other", asker="a", after="b") == [50]
    with pytest.raises(InvalidOptionError, match=f"{COLUMN} of cell 421211"):
        table.accuracies([cell_of("421211")], COLUMN, asker="a", after="b")


def test_a_missing_cell_is_named(tmp_path) -> None:
    table = opened(write_table(tmp_path / "table.csv", {"421211": (1,)}))

    with pytest.raises(InvalidOptionError, match="000100"):
        table.accuracies([cell_of("421211"), cell_of("000100")], COLUMN, asker="a", after="b")


def test_no_table_and_a_broken_one_are_refused(tmp_path) -> None:
    with pytest.raises(InvalidOptionError, match="no table of accuracies there"):
        read_columns(tmp_path / "table.csv")
    (tmp_path / "table.csv.gz").write_bytes(b"index,ops,acc\n")
    with pytest.raises(InvalidOptionError, match="cannot be read"):
        read_columns(tmp_path / "table.csv.gz")


def test_columns_of_other_datasets_belong_to_the_same_length_and_split() -> None:
    columns = ("e12_cifar10-val", "e12_cifar100-val", "e12_imagenet-test", "e200_cifar100-val", "e200_cifar100-test")

    assert other_datasets(columns, "e12_cifar10-val") == {
        "cifar100": "e12_cifar100-val",
        "imagenet": "e12_imagenet-test",
    }
    assert other_datasets(columns, "e200_cifar10-test") == {"cifar100": "e200_cifar100-test"}
    assert other_datasets(("e200_cifar10-x",), "e200_cifar10-x") == {}


@pytest.mark.skipif(not REAL.exists(), reason="the table of NAS-Bench-201 is not on this machine")
def test_the_real_table_has_every_cell_and_dead_ones_are_at_chance(tmp_path) -> None:
    table = Table(REAL, LookupLog(tmp_path / "log"))
    accuracies = table.column(COLUMN, asker="test of the order of edges", after="nothing is chosen")

    assert len(accuracies) == 5**6
    # Under any other order of edges or ops, some of the cells without a way through would be good ones.
    dead = {accuracy for cell, accuracy in accuracies.items() if not SPACE.is_valid(cell)}
    assert dead == {9.712}
    assert min(accuracy for cell, accuracy in accuracies.items() if SPACE.is_valid(cell)) > 20
