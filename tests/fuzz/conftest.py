"""The real service with a fake in the place of Ray, on a folder of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.service.fakes import FakeCluster, serving
from service.app import create_app
from service.settings import Settings


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def url(data_dir: Path) -> Iterator[str]:
    """Its address."""
    settings = Settings(data_dir=data_dir, max_upload_bytes=80_000_000)
    with serving(create_app(settings, cluster=lambda _: FakeCluster())) as address:
        yield address
