"""What goes into an installation beside the code."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", ["search_spaces", "service", "workers"])
def test_type_checkers_believe_the_annotations_of_an_installed_package(package: str) -> None:
    kept = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "py.typed" in kept[package]
    assert (ROOT / package / "py.typed").is_file()
