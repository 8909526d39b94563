"""All code of the project that an arm's process runs decides its runs; that of other arms does not."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine import ROOT
from benchmarks.nas_bench_201.arms import ARMS
from benchmarks.nas_bench_201.code import code_of, digest_of, imported_by

LOADED = """
import sys
import {module}
print(*[module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)], sep="\\n")
"""


def names_of(arm: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in code_of(ARMS[arm])}


def test_nothing_that_our_arm_loads_is_forgotten() -> None:
    script = LOADED.format(module="benchmarks.nas_bench_201.ours")
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    rooms = [ROOT / name for name in ("benchmarks", "search_spaces", "workers", "service")]
    loaded = {Path(line) for line in done.stdout.splitlines() if set(rooms) & set(Path(line).parents)}

    assert len(loaded) > 50
    assert loaded <= code_of(ARMS["ours"])


@pytest.mark.parametrize("room", ["adapt", "bayes", "contracts", "priors", "tasks", "training"])
def test_every_room_that_decides_what_we_choose_is_in_our_code(room: str) -> None:
    assert any(name.startswith(f"workers/{room}/") for name in names_of("ours"))
    assert "workers/tasks/description.py" in names_of("ours")


def test_each_arm_has_its_own_code_and_no_other_arms() -> None:
    own = {name: names_of(name) for name in ("ours", "naswot", "random_best_of_n")}
    files = {"ours": "ours", "naswot": "zero_cost", "random_best_of_n": "random_best"}

    for arm, names in own.items():
        assert {name for name in files if f"benchmarks/nas_bench_201/{files[name]}.py" in names} == {arm}
        assert {"benchmarks/nas_bench_201/arms.py", "benchmarks/nas_bench_201/one.py"} <= names
    assert "workers/adapt/adaptation.py" not in own["naswot"]
    assert digest_of(ARMS["ours"]) != digest_of(ARMS["naswot"]) == digest_of(ARMS["synflow"])


def test_what_decides_is_code_and_not_what_judges() -> None:
    assert not {"benchmarks/nas_bench_201/table.py", "benchmarks/nas_bench_201/judge.py"} & names_of("ours")


def test_an_import_counts_wherever_it_stands_and_with_its_packages() -> None:
    # `service.cli.bench` imports the executor within a function.
    found = {path.relative_to(ROOT).as_posix() for path in imported_by("service.cli.bench")}

    assert {"service/__init__.py", "service/cli/__init__.py", "workers/bench/ray_executor.py"} <= found
