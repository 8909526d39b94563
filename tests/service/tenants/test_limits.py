import json

import pytest

from service.records.keys import KeyRecords


def filler(num_bytes):
    """A document of that size that a route with a schema refuses only once it has read it."""
    return json.dumps({"x": "a" * (num_bytes - 9)}).encode()


def chunks(data):
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/meta-runs"), ("PATCH", "/v1/datasets/ds-000000000000")])
def test_a_body_over_the_limit_is_refused_however_it_comes(new_service, tmp_path, method, path, content_type, whole):
    with new_service(tmp_path, max_body_bytes=5000) as service:
        for num_bytes, status in ((5000, 422), (5001, 413)):
            body = filler(num_bytes)
            assert len(body) == num_bytes
            content = body if whole else chunks(body)
            response = service.client.request(method, path, content=content, headers={"Content-Type": content_type})
            assert response.status_code == status, response.text
        problem = response.json()
        assert (problem["code"], problem["status"]) == ("too_large", 413)
        assert "5000 bytes" in problem["detail"]


def test_a_file_may_be_larger_than_a_body(new_service, tmp_path, small_zip):
    with new_service(tmp_path, max_body_bytes=10) as service:
        service.add_dataset(small_zip)


def test_headers_over_the_limit_are_refused(new_service, tmp_path):
    with new_service(tmp_path, max_header_bytes=4000) as service:
        assert service.client.get("/v1/datasets", headers={"X-Long": "a" * 3000}).status_code == 200
        response = service.client.get("/v1/datasets", headers={"X-Long": "a" * 4000})
        assert (response.status_code, response.json()["code"]) == (431, "headers_too_large")
        assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/v1/datasets/ds%00", "/v1/datasets?cursor=%00", "/v1/audit?owner=a%00b"])
def test_an_address_without_nul_characters(shared_service, path):
    response = shared_service.client.get(path)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert "NUL" in response.json()["title"]


def test_a_browser_on_another_page_is_told_nothing(shared_service):
    asked = {"Origin": "https://lab.example", "Access-Control-Request-Method": "POST"}
    for method in ("OPTIONS", "GET"):
        response = shared_service.client.request(method, "/v1/datasets", headers=asked)
        assert not [name for name in response.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}, {"Host": "[1"}],
)
def test_a_service_without_keys_is_not_for_pages_of_other_sites(service, headers):
    response = service.client.get("/v1/datasets", headers=headers)
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")


def test_the_own_page_may_use_a_service_without_keys(service):
    own = str(service.client.base_url).rstrip("/")
    assert service.client.get("/v1/datasets", headers={"Origin": own}).status_code == 200
    named = {"Host": "localhost:8000", "Origin": "http://localhost:8000"}
    assert service.client.get("/v1/datasets", headers=named).status_code == 200


def test_a_browser_on_a_page_that_is_named_may_call_with_its_key(new_service, tmp_path):
    with new_service(tmp_path, cors_origins=("https://lab.example",)) as service:
        _, token = KeyRecords(service.parts.database).create(owner="ann", role="user")
        asked = {"Origin": "https://lab.example", "Access-Control-Request-Method": "POST"}
        asked["Access-Control-Request-Headers"] = "authorization,idempotency-key"
        before = service.client.options("/v1/adaptations", headers=asked)
        assert before.status_code == 200
        assert "authorization" in before.headers["Access-Control-Allow-Headers"].lower()
        for authorization, status in (({}, 401), ({"Authorization": f"Bearer {token}"}, 200)):
            response = service.client.get("/v1/datasets", headers={"Origin": "https://lab.example", **authorization})
            assert response.status_code == status
            assert response.headers["Access-Control-Allow-Origin"] == "https://lab.example"
        other = service.client.options("/v1/adaptations", headers={**asked, "Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in other.headers
