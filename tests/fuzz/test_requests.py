"""Requests that Schemathesis invents from the service's document: none makes it fail, each answer is as declared."""

import httpx
import pytest

from benchmarks.service.fuzz import invent_requests, left_behind, post_archives
from benchmarks.service.malformed import archive, files

SECONDS = 25.0


@pytest.mark.slow
def test_no_invented_request_makes_the_service_fail(url, data_dir, tmp_path):
    post_archives(url, [("good", archive(files()))])
    assert invent_requests(url, seconds=SECONDS, seed=0, folder=tmp_path) == ""
    assert left_behind(data_dir) == []
    assert httpx.get(f"{url}/readyz").json()["ok"]
