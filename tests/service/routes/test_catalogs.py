import re

import pytest

from search_spaces.registry import SPACES


def test_every_search_space_shows_its_decisions(shared_service):
    listed = shared_service.client.get("/v1/search-spaces").json()
    assert {space["name"] for space in listed} == set(SPACES)
    for view in listed:
        space = SPACES[view["name"]]
        assert [name for name, _ in view["decisions"]] == [decision.name for decision in space.decisions]
        assert space.parse(view["published"]) == space.published()
        assert shared_service.client.get(f"/v1/search-spaces/{view['name']}").json() == view


def test_a_search_space_that_does_not_exist_is_not_found_and_the_known_ones_are_told(shared_service):
    response = shared_service.client.get("/v1/search-spaces/enas")
    assert response.status_code == 404
    assert "nas_bench_201" in response.json()["detail"]


def test_a_service_whose_parts_work_is_ready(shared_service):
    assert shared_service.client.get("/healthz").json() == {"ok": True, "parts": {}}
    response = shared_service.client.get("/readyz")
    assert response.status_code == 200
    names = ("records", "store", "ray", "reconciler", "checker", "webhooks", "housekeeper")
    assert response.json()["parts"] == dict.fromkeys(names, "ok")


def test_a_service_without_its_cluster_is_not_ready_but_answers(service):
    service.jobs.down = True
    response = service.client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["ok"] is False
    assert "does not answer" in response.json()["parts"]["ray"]
    assert service.client.get("/healthz").status_code == 200


def test_a_service_whose_records_are_gone_says_so(service, monkeypatch):
    service.parts.database.close()
    (service.parts.settings.data_dir / "records.sqlite3").unlink()
    service.parts.settings.data_dir.joinpath("records.sqlite3").mkdir()
    response = service.client.get("/v1/datasets")
    assert (response.status_code, response.json()["code"]) == (503, "records_unavailable")
    assert response.headers["Retry-After"] == "5"
    assert service.client.get("/readyz").status_code == 503


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/v1/datasets", 405)])
def test_what_the_router_refuses_is_a_problem_too(shared_service, method, path, status):
    response = shared_service.client.request(method, path)
    assert response.status_code == response.json()["status"] == status
    assert response.headers["Content-Type"] == "application/problem+json"


def test_every_answer_bears_the_id_of_its_request(shared_service):
    made = shared_service.client.get("/healthz").headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{16}", made)
    given = shared_service.client.get("/nowhere", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"]
    assert given == "mine-1"
    unsafe = shared_service.client.get("/healthz", headers={"X-Request-Id": "a b\tc"}).headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{16}", unsafe)


def test_an_unexpected_error_is_a_problem_that_names_the_line_of_the_log(shared_service, monkeypatch, caplog):
    def broken(**_):
        raise KeyError("a bug")

    monkeypatch.setattr(shared_service.parts.datasets, "page", broken)
    response = shared_service.client.get("/v1/datasets")
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    number = response.headers["X-Request-Id"]
    assert number in response.json()["todo"]
    assert "a bug" not in response.text
    assert any(number in record.getMessage() for record in caplog.records)


def test_the_api_describes_itself(shared_service):
    document = shared_service.client.get("/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    assert {"create_dataset", "create_adaptation", "cancel_adaptation", "get_artifact", "list_priors"} <= set(ids)
    assert all(operation["summary"] and operation["tags"] for operation in operations)
    assert "Problem" in document["components"]["schemas"]
    bodies = document["paths"]["/v1/adaptations"]["post"]["requestBody"]["content"]
    assert set(bodies) == {"multipart/form-data", "application/json"}
    assert "budget_s" in bodies["multipart/form-data"]["schema"]["properties"]
    assert shared_service.client.get("/docs").status_code == 200
