"""A suite of made-up images."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workers.bench.made_up import CELL, write_colors
from workers.bench.folder import BenchFolder
from workers.bench.suite import Suite

MakeSuite = Callable[..., Suite]


@pytest.fixture
def make_suite() -> MakeSuite:
    """A suite of two datasets, two seeds, and an arm whose architecture is another's."""

    def make(**changes: object) -> Suite:
        document = {
            "name": "small",
            "reference": "adapted",
            "seeds": [0, 1],
            "budgets_s": [10],
            "datasets": {"colors": {"path": "colors.zip"}, "shades": {"path": "shades.zip", "max_images": 60}},
            "arms": {
                "fresh": {"search": "given", "prior": "none", "architecture": {"architecture_of": "adapted"}},
                "adapted": {},
                "fixed": {"search": "given", "architecture": CELL},
            },
        }
        return Suite.model_validate({**document, **changes})

    return make


@pytest.fixture
def suite(make_suite: MakeSuite) -> Suite:
    return make_suite()


@pytest.fixture
def folder(tmp_path: Path) -> BenchFolder:
    return BenchFolder(tmp_path / "out")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two zips of three classes, 40 images of 8 x 8 pixels each; `shades` has train and test folders."""
    root = tmp_path_factory.mktemp("data")
    write_colors(root / "colors.zip")
    write_colors(root / "shades.zip", parts=("train/", "test/"))
    return root
