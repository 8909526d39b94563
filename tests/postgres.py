"""A real PostgreSQL, for whoever asks for one."""

from collections.abc import Iterator

import pytest

from benchmarks.service.postgresql import DEBIAN, PostgreSQL, programs
from benchmarks.service.postgresql import postgresql as running


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server that runs until the tests end."""
    folder = programs()
    if folder is None:
        pytest.skip(f"no PostgreSQL in {DEBIAN}: apt-get install postgresql")
    with running(folder) as server:
        yield server
