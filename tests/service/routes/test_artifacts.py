import hashlib

import pytest

WEIGHTS = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def folder(shared_service):
    """The path of a finished adaptation's artifacts."""
    view = shared_service.adapt(dataset_id=shared_service.dataset["id"], prior="none")
    shared_service.await_submission()
    shared_service.job(view["id"]).succeed()
    return shared_service.await_state(view["id"], "SUCCEEDED")["links"]["artifacts"]


def test_an_artifact_comes_with_its_type_and_its_hash(shared_service, folder):
    response = shared_service.client.get(f"{folder}/weights.safetensors")
    assert response.status_code == 200
    assert response.content == WEIGHTS
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Length"] == str(len(WEIGHTS))
    assert response.headers["ETag"] == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    report = shared_service.client.get(f"{folder}/report.md")
    assert report.headers["Content-Type"] == "text/markdown; charset=utf-8"


def test_each_listed_artifact_lies_where_its_href_says(shared_service, folder):
    for artifact in shared_service.client.get(folder).json():
        content = shared_service.client.get(artifact["href"]).content
        assert hashlib.sha256(content).hexdigest() == artifact["sha256"]


@pytest.mark.parametrize(
    ("asked", "part", "told"),
    [
        ("bytes=0-0", WEIGHTS[:1], "bytes 0-0/10240"),
        ("bytes=100-199", WEIGHTS[100:200], "bytes 100-199/10240"),
        ("bytes=10000-", WEIGHTS[10000:], "bytes 10000-10239/10240"),
        ("bytes=-40", WEIGHTS[-40:], "bytes 10200-10239/10240"),
        ("bytes=5-99999", WEIGHTS[5:], "bytes 5-10239/10240"),
    ],
)
def test_a_part_can_be_asked_for(shared_service, folder, asked, part, told):
    response = shared_service.client.get(f"{folder}/weights.safetensors", headers={"Range": asked})
    assert response.status_code == 206
    assert response.content == part
    assert response.headers["Content-Range"] == told


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=-0"])
def test_a_part_beyond_the_end_is_refused(shared_service, folder, asked):
    response = shared_service.client.get(f"{folder}/weights.safetensors", headers={"Range": asked})
    assert (response.status_code, response.json()["code"]) == (416, "range_not_satisfiable")


@pytest.mark.parametrize("asked", ["items=0-1", "bytes=0-1,4-5", "bytes=-", "bytes=7-3", f"bytes=0-{'9' * 5000}"])
def test_a_range_of_another_form_is_ignored(shared_service, folder, asked):
    response = shared_service.client.get(f"{folder}/weights.safetensors", headers={"Range": asked})
    assert (response.status_code, len(response.content)) == (200, len(WEIGHTS))


def test_a_part_of_a_file_that_has_changed_is_not_sent(shared_service, folder):
    headers = {"Range": "bytes=0-9", "If-Range": '"another"'}
    response = shared_service.client.get(f"{folder}/weights.safetensors", headers=headers)
    assert (response.status_code, len(response.content)) == (200, len(WEIGHTS))


def test_bytes_that_the_client_has_are_not_sent_again(shared_service, folder):
    etag = shared_service.client.get(f"{folder}/report.md").headers["ETag"]
    response = shared_service.client.get(f"{folder}/report.md", headers={"If-None-Match": etag})
    assert (response.status_code, response.content) == (304, b"")


@pytest.mark.parametrize("name", ["manifest.json", "request.json", "..%2Frequest.json"])
def test_only_what_the_manifest_lists_can_be_fetched(shared_service, folder, name):
    assert shared_service.client.get(f"{folder}/{name}").status_code == 404


def test_bytes_that_the_store_has_lost_are_told_as_such(shared_service, folder):
    view = shared_service.client.get(folder.removesuffix("/artifacts")).json()
    key = f"adaptations/{view['id']}/attempts/1/report.md"
    data = shared_service.parts.store.get_bytes(key)
    shared_service.parts.store.delete(key)
    response = shared_service.client.get(f"{folder}/report.md")
    shared_service.parts.store.put_bytes(key, data)
    assert (response.status_code, response.json()["code"]) == (404, "object_missing")
