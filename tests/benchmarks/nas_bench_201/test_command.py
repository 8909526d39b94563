"""The whole command, on a table that is made up."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from benchmarks.nas_bench_201.__main__ import main
from tests.benchmarks.nas_bench_201.conftest import COLUMN


def command(tmp_path: Path, table: Path, images: Path, *more: str) -> Sequence[str]:
    places = ["--work", tmp_path / "work", "--out", tmp_path / "out" / "nas201.json"]
    given = ["--table", table, "--images", images, "--elsewhere", tmp_path / "nothing", *places]
    return [str(word) for word in (*given, "--seconds", 1, "--threads", 1, *more)]


def test_it_decides_then_looks_up_and_ends_with_a_line_of_json(whole_table, packed, tmp_path, capsys) -> None:
    options = command(tmp_path, whole_table, packed, "--arms", "most_params", "--caps", "25", "100")

    assert main(options) == 0

    results = json.loads(capsys.readouterr().out.splitlines()[-1])
    free = results["caps"]["100%"]
    assert free["num_cells"] == 15_284
    assert free["best"] == 61.0
    assert free["arms"]["most_params"]["regret"]["mean"] == 0.0
    assert free["arms"]["most_params"]["in_top"] == {"5": True, "1": True}
    # The oracle of CIFAR-100 takes 222222, the best there: none of CIFAR-10's convolutions.
    assert free["arms"]["constant_by_table_of_cifar100"]["regret"]["mean"] == 60.0
    assert 0 < results["caps"]["25%"]["best"] < 61.0
    written = json.loads((tmp_path / "out" / "nas201.json").read_text())
    assert written["caps"] == results["caps"]

    looks = [json.loads(line) for line in (tmp_path / "out" / "nas201_lookups.jsonl").read_text().splitlines()]
    last_decision = max(datetime.fromisoformat(decision["decided_at"]) for decision in written["decisions"])
    assert {look["asker"] for look in looks} == {
        "judge",
        "most_params",
        "constant_by_table_of_cifar100",
        "constant_by_table_of_imagenet",
    }
    assert all(datetime.fromisoformat(look["at"]) > last_decision for look in looks)


@pytest.mark.parametrize(
    ("missing", "more", "said"),
    [
        ("table", (), "no table of accuracies there"),
        ("images", (), "no images to choose by there"),
        ("", ("--column", "e200_cifar10-test"), f"one of {COLUMN}"),
        ("", ("--arms", "oracle"), "unknown arm"),
        ("", ("--caps", "1"), "cap on the MACs"),
        ("", ("--prior", "nowhere"), "no prior in this folder"),
        ("", ("--arms", "constant_by_ours"), "make domains"),
        ("", ("--seeds", "0"), "at least one"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_runs(
    whole_table, packed, tmp_path, capsys, missing, more, said
) -> None:
    nothing = tmp_path / "nothing.csv"
    table, images = (nothing if missing == "table" else whole_table), (nothing if missing == "images" else packed)

    assert main(command(tmp_path, table, images, *more)) == 1

    assert said in capsys.readouterr().err
    assert not (tmp_path / "work" / "decisions").exists()
    assert not (tmp_path / "out").exists()
