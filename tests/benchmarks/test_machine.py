"""How results name the command that made them."""

import sys
from pathlib import Path

import pytest

from benchmarks.machine import ROOT, describe


@pytest.mark.parametrize(
    ("file", "module"),
    [
        (ROOT / "benchmarks" / "adapt.py", "benchmarks.adapt"),
        (ROOT / "benchmarks" / "search" / "step.py", "benchmarks.search.step"),
        (ROOT / "benchmarks" / "recovery" / "__main__.py", "benchmarks.recovery"),
        (Path("/elsewhere/tool.py"), "tool"),
    ],
)
def test_results_name_the_module_that_was_run(file: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(file), "--rounds", "2"])

    assert describe()["command"] == f"python -m {module} --rounds 2"
