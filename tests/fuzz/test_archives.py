"""Every kind of broken archive through HTTP: refused or taken, never a failure, and nothing is left of it."""

import httpx
import pytest

from benchmarks.service.fuzz import left_behind, post_archives
from benchmarks.service.malformed import archive, files, kinds


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_archive_makes_the_service_fail(url, data_dir):
    broken = list(kinds(seed=0))[::2]  # the benchmark posts all of them
    assert len({name for name, _ in broken}) == len(broken) >= 200
    outcome = post_archives(url, broken)
    assert outcome.failures == []
    assert outcome.statuses[422] >= 100
    assert left_behind(data_dir) == []
    assert post_archives(url, [("good", archive(files()))]).statuses.keys() <= {200, 201}
    assert httpx.get(f"{url}/readyz").json()["ok"]


def test_the_same_seed_breaks_the_same_bytes():
    assert list(kinds(3)) == list(kinds(3)) != list(kinds(4))
