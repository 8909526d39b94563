import hashlib
import json
import socket
import tracemalloc
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from search_spaces.errors import InvalidOptionError
from service.client import AsyncClient, BadDownloadError, Client, RetryPolicy, ServiceError, ServiceUnreachableError
from service.schemas import AdaptationView, ArtifactView, DatasetView, Links
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.datasets import DatasetReport

NOW = datetime(2026, 1, 2, tzinfo=UTC)
REPORT = DatasetReport(classes=("a", "b"), num_images=(3, 4), median_size=8, min_size=8, max_size=8, modes={"L": 7})
DATASET = DatasetView(id="ds1", name="digits", sha256="0" * 64, num_bytes=7, report=REPORT, created_at=NOW)
PROBLEM = {
    "title": "the dataset cannot be used",
    "status": 422,
    "detail": "one class only: got 1; expected at least 2",
    "code": "invalid_dataset",
    "todo": "Add a second folder.",
    "errors": ["a/1.png: truncated"],
}


def view(state: str, **fields: object) -> bytes:
    links = Links(self="/v1/adaptations/ad1", artifacts="/v1/adaptations/ad1/artifacts")
    made = AdaptationView.model_validate(
        {"id": "ad1", "state": state, "attempt": 1, "request": AdaptationRequest(), "created_at": NOW, "links": links}
        | fields
    )
    return made.model_dump_json().encode()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_an_upload_that_is_not_answered_in_time_is_not_sent_again(connect, silent, waits, archive, monkeypatch):
    monkeypatch.setattr("service.client.datasets.UPLOAD_TIMEOUT_S", 0.2)
    with connect(silent, sleep=waits.append) as client, pytest.raises(ServiceUnreachableError):
        client.create_dataset(archive)
    assert waits == []


@pytest.fixture
def archive(tmp_path) -> Path:
    path = tmp_path / "digits.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/1.png", b"x" * 1000)
    return path


def artifact(data: bytes, name: str = "weights.safetensors", sha256: str | None = None) -> ArtifactView:
    digest = sha256 or hashlib.sha256(data).hexdigest()
    return ArtifactView(name=name, num_bytes=len(data), sha256=digest, media_type="x/y", href=f"/elsewhere/{name}")


def test_a_call_returns_the_schema(client, server, answer):
    server.answer(answer(body=DATASET.model_dump_json().encode()))
    assert client.dataset("ds1") == DATASET
    assert server.requests[0].path == "/v1/datasets/ds1"


def test_a_base_url_may_have_a_path(connect, server, answer):
    server.answer(answer(body=b'{"ok": true}'))
    with connect(f"{server.url}/archprior/") as client:
        assert client.health().ok
    assert server.requests[0].path == "/archprior/healthz"


def test_an_id_cannot_leave_its_place_in_the_path(client, server, answer):
    server.answer(answer(body=DATASET.model_dump_json().encode()))
    client.dataset("a/b?c#d")
    assert server.requests[0].path == "/v1/datasets/a%2Fb%3Fc%23d"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_idempotent_call_is_retried_with_growing_delays(client, server, answer, waits, status):
    server.answer(*[answer(status=status)] * 3, answer(body=DATASET.model_dump_json().encode()))
    assert client.dataset("ds1") == DATASET
    assert waits == [0.25, 0.5, 1.0]


def test_retries_are_bounded_and_end_with_the_services_answer(client, server, answer, waits):
    server.answer(answer(status=503, body=b"busy"))
    with pytest.raises(ServiceError, match="Service Unavailable: busy"):
        client.dataset("ds1")
    assert len(server.requests) == RetryPolicy().num_tries == len(waits) + 1


def test_retry_after_is_honored(client, server, answer, waits):
    server.answer(answer(status=429, headers={"Retry-After": "7"}), answer(body=DATASET.model_dump_json().encode()))
    client.dataset("ds1")
    assert waits == [7.0]


def test_a_retry_after_that_is_too_long_ends_the_tries(client, server, answer, waits):
    server.answer(answer(status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(ServiceError):
        client.dataset("ds1")
    assert waits == []


@pytest.mark.parametrize("status", [400, 404, 409, 422, 500])
def test_other_statuses_are_not_retried(client, server, answer, status):
    server.answer(answer(status=status, body=json.dumps(PROBLEM | {"status": status}).encode()))
    with pytest.raises(ServiceError) as caught:
        client.dataset("ds1")
    assert caught.value.problem.status == status
    assert len(server.requests) == 1


def test_creating_an_adaptation_is_retried_with_its_key(client, server, answer, archive):
    for call in (
        lambda: client.create_adaptation(AdaptationRequest(dataset_id="ds1")),
        lambda: client.create_adaptation(AdaptationRequest(), archive=archive),
        lambda: client.create_adaptation(AdaptationRequest(), archive=archive, key="mine"),
    ):
        server.answer(answer(status=503), answer(status=202, body=view("QUEUED")))
        assert call().state == "QUEUED"
    keys = [request.headers["Idempotency-Key"] for request in server.requests]
    assert keys[::2] == keys[1::2]
    assert len(set(keys)) == 3
    assert keys[-1] == "mine"


def test_cancelling_is_retried(client, server, answer):
    server.answer(answer(status=502), answer(body=view("CANCELLING")))
    assert client.cancel("ad1").state == "CANCELLING"


def test_a_refused_connection_is_retried_then_named(connect, waits):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with connect(url, sleep=waits.append) as client, pytest.raises(ServiceUnreachableError, match=url):
            client.health()
    assert len(waits) == RetryPolicy().num_tries - 1


def test_an_answer_that_breaks_off_is_asked_for_again(client, server, answer):
    body = DATASET.model_dump_json().encode()
    server.answer(answer(body=body, cut=5), answer(body=body))
    assert client.dataset("ds1") == DATASET


def test_a_problem_becomes_an_error_with_all_that_it_says(client, server, answer):
    server.answer(answer(status=422, body=json.dumps(PROBLEM | {"later": "field"}).encode()))
    with pytest.raises(ServiceError) as caught:
        client.dataset("ds1")
    assert caught.value.problem.code == "invalid_dataset"
    assert caught.value.to_dict()["code"] == "invalid_dataset"
    for part in ("one class only: got 1; expected at least 2", "Add a second folder.", "a/1.png: truncated"):
        assert str(caught.value).count(part) == 1


def test_a_proxys_page_becomes_an_error_too(client, server, answer):
    server.answer(answer(status=403, body=b"<html>go away</html>"))
    with pytest.raises(ServiceError, match="Forbidden: <html>go away") as caught:
        client.dataset("ds1")
    assert caught.value.problem.code == "http_403"


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"ok": 1, "extra": 2}'])
def test_an_answer_of_the_wrong_shape_is_an_error(client, server, answer, body):
    server.answer(answer(body=body))
    with pytest.raises(ServiceError) as caught:
        client.health()
    assert caught.value.problem.code == "bad_answer"


def test_not_ready_is_an_answer_and_not_an_error(client, server, answer):
    server.answer(answer(status=503, body=b'{"ok": false, "parts": {"ray": "starting"}}'))
    health = client.ready()
    assert (health.ok, health.parts) == (False, {"ray": "starting"})


def test_an_upload_is_one_multipart_with_its_name(client, server, answer, archive):
    server.answer(answer(status=503), answer(status=201, body=DATASET.model_dump_json().encode()))
    assert client.create_dataset(archive, name="digits") == DATASET
    first, second = server.requests
    assert first.num_bytes == second.num_bytes > archive.stat().st_size
    for part in (b'name="dataset"; filename="digits.zip"', b'name="name"\r\n\r\ndigits', archive.read_bytes()):
        assert part in second.head


def test_an_adaptation_with_an_archive_sends_its_options_as_a_form(client, server, answer, archive):
    server.answer(answer(status=202, body=view("QUEUED")))
    client.create_adaptation(AdaptationRequest(max_params=5000, budget_s=30), archive=archive)
    head = server.requests[0].head
    for part in (b'name="max_params"\r\n\r\n5000', b'name="budget_s"\r\n\r\n30.0', b'name="seed"\r\n\r\n0'):
        assert part in head
    assert b"resolution" not in head


@pytest.mark.parametrize("dataset_id", [None, "ds1"])
def test_an_adaptation_needs_exactly_one_dataset(client, archive, dataset_id):
    with pytest.raises(InvalidOptionError):
        client.create_adaptation(
            AdaptationRequest(dataset_id=dataset_id), archive=archive if dataset_id is not None else None
        )


def test_large_files_pass_in_constant_memory(client, server, answer, tmp_path):
    size = 64 << 20
    big = tmp_path / "big.zip"
    with big.open("wb") as file:
        file.truncate(size)
    server.answer(answer(body=DATASET.model_dump_json().encode()))
    tracemalloc.start()
    try:
        client.create_dataset(big)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert server.requests[0].num_bytes > size
    assert peak_bytes < size / 8


def test_a_download_lies_in_the_folder_under_its_name(client, server, answer, tmp_path):
    data = bytes(range(256)) * 1000
    server.answer(answer(body=data, cut=10), answer(body=data))
    path = client.download("ad1", artifact(data), tmp_path / "new" / "out")
    assert path == tmp_path / "new" / "out" / "weights.safetensors"
    assert path.read_bytes() == data
    assert [request.path for request in server.requests] == ["/v1/adaptations/ad1/artifacts/weights.safetensors"] * 2
    assert list(path.parent.iterdir()) == [path]


def test_a_download_with_another_hash_leaves_what_was_there(client, server, answer, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"old")
    server.answer(answer(body=b"data"))
    with pytest.raises(BadDownloadError, match="does not match"):
        client.download("ad1", artifact(b"other"), tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "/etc/x", "a\\b"])
def test_an_artifact_cannot_be_written_outside_the_folder(client, server, tmp_path, name):
    with pytest.raises(BadDownloadError, match="not a plain file name"):
        client.download("ad1", artifact(b"x", name=name), tmp_path)
    assert server.requests == []


@pytest.mark.parametrize("last", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_wait_returns_the_final_view_and_tells_of_each(client, server, answer, waits, last):
    states = ["QUEUED", "RUNNING", "CANCELLING", last]
    server.answer(*(answer(body=view(state)) for state in states))
    seen: list[str] = []
    final = client.wait("ad1", on_progress=lambda one: seen.append(one.state), poll_s=0.75)
    assert final.state == last
    assert seen == states
    assert waits == [0.75] * 3


def test_wait_survives_a_service_that_restarts(client, server, answer):
    server.answer(answer(body=view("RUNNING")), answer(status=502), answer(status=503), answer(body=view("SUCCEEDED")))
    assert client.wait("ad1").state == "SUCCEEDED"


def test_a_page_is_asked_for_with_what_was_given_only(client, server, answer):
    server.answer(answer(body=b'{"items": [' + view("FAILED") + b'], "next_cursor": "c2"}'))
    page = client.adaptations(state="FAILED", limit=5)
    assert (len(page.items), page.next_cursor) == (1, "c2")
    assert server.requests[0].path == "/v1/adaptations?state=FAILED&limit=5"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://", "http://[::1", "/v1"])
def test_an_address_that_is_none_is_refused(kind, url):
    with pytest.raises(InvalidOptionError, match="not a service's address"):
        kind(url)
