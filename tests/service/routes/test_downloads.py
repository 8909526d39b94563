"""Downloads from a store that people reach themselves: the service sends them there."""

import hashlib
import uuid

import httpx
import pytest

from service.client import BadDownloadError, Client, RetryPolicy, ServiceUnreachableError
from service.schemas import ArtifactView

WEIGHTS = bytes(range(256)) * 40
ETAG = f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'


@pytest.fixture
def public_endpoint(s3_environment, monkeypatch):
    """The store's server, by the name that people know; the service knows it by another."""
    endpoint = s3_environment.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL", endpoint)
    return endpoint


@pytest.fixture
def make_files(new_service, tmp_path, small_zip):
    """Returns a function that starts a service on a new bucket, with a finished adaptation."""

    def make(service):
        dataset = service.add_dataset(small_zip)
        view = service.adapt(dataset_id=dataset["id"], prior="none")
        service.await_submission()
        service.job(view["id"]).succeed()
        return service.await_state(view["id"], "SUCCEEDED")["links"]["artifacts"]

    return make


@pytest.fixture
def public_service(public_endpoint, new_service, make_files, tmp_path):
    """A running service with such a store, and the path of a finished adaptation's artifacts."""
    with new_service(tmp_path / "data", store_url=f"s3://bucket-{uuid.uuid4().hex[:12]}/team") as service:
        yield service, make_files(service)


def test_a_client_is_sent_to_the_store_and_gets_the_file_under_its_name(public_service, public_endpoint):
    service, folder = public_service
    answer = service.client.get(f"{folder}/weights.safetensors")
    assert (answer.status_code, answer.content) == (307, b"")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Location"].startswith(f"{public_endpoint}/bucket-")

    direct = httpx.get(answer.headers["Location"], trust_env=False)
    whole = service.client.get(f"{folder}/report.md", follow_redirects=True)
    assert (direct.status_code, direct.content) == (200, WEIGHTS)
    assert whole.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert whole.headers["Content-Disposition"] == 'attachment; filename="report.md"'


def test_what_needs_no_bytes_is_answered_before(public_service):
    service, folder = public_service
    known = service.client.get(f"{folder}/weights.safetensors", headers={"If-None-Match": ETAG})
    beyond = service.client.get(f"{folder}/weights.safetensors", headers={"Range": "bytes=10240-"})
    unknown = service.client.get(f"{folder}/manifest.json")
    assert (known.status_code, known.headers["ETag"]) == (304, ETAG)
    assert [beyond.status_code, unknown.status_code] == [416, 404]


@pytest.mark.parametrize("condition", [{}, {"If-Range": ETAG}])
def test_a_part_comes_through_the_service(public_service, condition):
    service, folder = public_service
    headers = {"Range": "bytes=5-9", **condition}
    part = service.client.get(f"{folder}/weights.safetensors", headers=headers)
    assert (part.status_code, part.content, part.headers["ETag"]) == (206, WEIGHTS[5:10], ETAG)


def test_a_part_of_another_file_is_the_whole_of_this_one(public_service):
    service, folder = public_service
    headers = {"Range": "bytes=5-9", "If-Range": '"other"'}
    answer = service.client.get(f"{folder}/weights.safetensors", headers=headers)
    assert (answer.status_code, answer.content) == (200, WEIGHTS)


def test_bytes_that_the_store_has_lost_are_told_by_the_service(public_service):
    service, folder = public_service
    for item in service.parts.store.list("adaptations/"):
        service.parts.store.delete(item.key)
    answer = service.client.get(f"{folder}/report.md")
    assert (answer.status_code, answer.json()["code"]) == (404, "object_missing")


def test_without_a_public_address_the_bytes_go_through_the_service(s3_environment, new_service, make_files, tmp_path):
    with new_service(tmp_path / "data", store_url=f"s3://bucket-{uuid.uuid4().hex[:12]}") as service:
        folder = make_files(service)
        whole = service.client.get(f"{folder}/weights.safetensors")
        part = service.client.get(f"{folder}/weights.safetensors", headers={"Range": "bytes=5-9"})
    assert (whole.status_code, whole.content, whole.headers["ETag"]) == (200, WEIGHTS, ETAG)
    assert (part.status_code, part.content) == (206, WEIGHTS[5:10])


def test_the_typed_client_follows_and_checks_the_hash(public_service, tmp_path):
    service, folder = public_service
    adaptation_id = folder.split("/")[3]
    with Client(str(service.client.base_url)) as client:
        files = client.artifacts(adaptation_id)
        paths = [client.download(adaptation_id, one, tmp_path / "out") for one in files]
        assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] == [one.sha256 for one in files]

        service.parts.store.put_bytes(f"adaptations/{adaptation_id}/attempts/1/report.md", b"# Another\n")
        (report,) = (one for one in files if one.name == "report.md")
        with pytest.raises(BadDownloadError, match="does not match its hash"):
            client.download(adaptation_id, report, tmp_path / "again")
    assert list((tmp_path / "again").iterdir()) == []


def test_a_store_that_the_client_cannot_reach_is_named(public_service, monkeypatch, tmp_path):
    service, folder = public_service
    adaptation_id = folder.split("/")[3]
    files = [ArtifactView.model_validate(one) for one in service.client.get(folder).json()]
    monkeypatch.setattr(
        service.parts.store, "presigned_get", lambda *_, **__: "http://127.0.0.1:9/bucket/key?X-Amz-Signature=0123"
    )
    with (
        Client(str(service.client.base_url), retries=RetryPolicy(num_tries=1)) as client,
        pytest.raises(ServiceUnreachableError, match="the store to which the service sends") as caught,
    ):
        client.download(adaptation_id, files[0], tmp_path)
    assert "http://127.0.0.1:9," in str(caught.value)
    assert "ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL" in caught.value.todo
    assert "0123" not in str(caught.value)
