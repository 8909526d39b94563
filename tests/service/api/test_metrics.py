"""What Prometheus reads."""

import re

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families


def samples(client: httpx.Client) -> dict[tuple[str, ...], float]:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain")
    return {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(response.text)
        for one in family.samples
    }


def test_requests_are_counted_by_route_and_status(service):
    for adaptation_id in ("ad-1", "ad-2"):
        service.client.get(f"/v1/adaptations/{adaptation_id}")
    service.client.get("/v1/adaptations", params={"limit": 0})
    service.client.get("/somewhere/else")
    service.client.request("BREW", "/v1/adaptations")
    found = samples(service.client)
    requests = "archprior_requests_total"
    assert found[requests, "GET", "/v1/adaptations/{adaptation_id}", "404"] == 2
    assert found[requests, "GET", "/v1/adaptations", "422"] == 1
    assert found[requests, "GET", "none", "404"] == 1
    assert sum(number for (name, *labels), number in found.items() if name == requests and "other" in labels) == 1
    latency = "archprior_request_duration_seconds_count"
    assert found[latency, "GET", "/v1/adaptations/{adaptation_id}", "404"] == 2
    assert not [labels for labels in found if any("ad-1" in label for label in labels)]


def test_an_unexpected_failure_is_counted(service, monkeypatch):
    monkeypatch.setattr(service.parts.adaptations, "get", lambda *_, **__: 1 / 0)
    assert service.client.get("/v1/adaptations/ad-1").status_code == 500
    with httpx.Client(base_url=service.client.base_url, trust_env=False) as another:  # the server ends a failed one's
        found = samples(another)
    assert found["archprior_requests_total", "GET", "/v1/adaptations/{adaptation_id}", "500"] == 1


def test_what_waits_and_runs_is_told_without_asking_ray(new_service, tmp_path, small_zip):
    with new_service(tmp_path / "data", max_submitted_jobs=1) as service:
        dataset = service.add_dataset(small_zip)
        first = service.adapt(dataset_id=dataset["id"])
        service.await_state(first["id"], "RUNNING")
        for number in range(3):
            service.adapt(dataset_id=dataset["id"], seed=number)
        service.jobs.down = True
        found = samples(service.client)
    work = {labels[1:]: value for labels, value in found.items() if labels[0] == "archprior_work"}
    assert work["adaptations", "QUEUED"] == 3
    assert work["adaptations", "RUNNING"] == 1
    assert work["meta_runs", "STOPPING"] == 0
    assert found["archprior_jobs_running", "adaptations"] == 1
    assert found["archprior_jobs_running", "meta_runs"] == 0


def test_two_apps_count_apart(new_service, tmp_path):
    with new_service(tmp_path / "one") as one, new_service(tmp_path / "two") as two:
        one.client.get("/v1/adaptations/ad-1")
        key = ("archprior_requests_total", "GET", "/v1/adaptations/{adaptation_id}", "404")
        assert key in samples(one.client)
        assert key not in samples(two.client)


@pytest.mark.parametrize("name", ["archprior_requests", "archprior_request_duration_seconds", "archprior_work"])
def test_each_metric_says_what_it_is(service, name):
    text = service.client.get("/metrics").text
    assert re.search(rf"^# HELP {name}\S* \w+", text, re.MULTILINE)
