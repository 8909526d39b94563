"""What the tests of housekeeping share."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from service.housekeeping.housekeeper import Housekeeper
from service.housekeeping.tenure import new_lease
from service.metrics import GcMetrics
from service.records.datasets import DatasetRecords
from service.records.housekeeping import HousekeepingRecords
from service.records.priors import PriorRecords

DAY_S = 86_400.0
STATE_TIMEOUT_S = 20.0


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """In SQLite, but where a test is marked for both."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path / 'records.sqlite3'}"
    return request.getfixturevalue("postgresql").new_database()


@pytest.fixture
def housekeeper(database, store) -> Housekeeper:
    """One whose retention is 30 days."""
    return Housekeeper(
        records=HousekeepingRecords(database),
        datasets=DatasetRecords(database),
        priors=PriorRecords(database),
        store=store,
        new_lease=lambda: new_lease(database, holder="test"),
        retention_s=30 * DAY_S,
        metrics=GcMetrics(),
    )


@pytest.fixture(scope="session")
def make_old() -> Callable[..., None]:
    """Returns a function that has objects of a folder store be two days old."""

    def age(store, keys: Iterable[str] | None = None) -> None:
        then = time.time() - 2 * DAY_S
        for key in keys if keys is not None else [one.key for one in store.list("")]:
            os.utime(store.local_path(key), (then, then))

    return age


@pytest.fixture(scope="session")
def await_keys() -> Callable[..., None]:
    """Returns a function that waits until a service's store holds these keys below a prefix and no others."""

    def wait(service, prefix: str, keys: Iterable[str]) -> None:
        expected, deadline = set(keys), time.monotonic() + STATE_TIMEOUT_S
        while (there := {one.key for one in service.parts.store.list(prefix)}) != expected:
            assert time.monotonic() < deadline, there
            time.sleep(0.01)

    return wait
