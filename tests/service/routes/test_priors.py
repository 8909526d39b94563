import hashlib
import json
import signal
import subprocess
import threading
import time

import pytest

from workers.contracts.errors import StoreError
from workers.priors.registry import DEFAULTS, bundled_cards
from workers.tasks.check_process import CheckKilledError

BUNDLED = DEFAULTS["nas_bench_201"]


def post(service, card, tensors, **fields):
    files = {
        "card": ("card.json", card if isinstance(card, bytes) else card.model_dump_json().encode(), "application/json"),
        "tensors": ("prior.safetensors", tensors, "application/octet-stream"),
    }
    return service.client.post("/v1/priors", files=files, data=fields)


def card_of(card, tensors, **changes):
    """The card of other tensors."""
    measured = {"sha256": hashlib.sha256(tensors).hexdigest(), "num_bytes": len(tensors)}
    return card.model_copy(update={**measured, **changes})


def told(response):
    problem = response.json()
    return response.status_code, problem["code"]


def nothing_is_left(service):
    listed = [view["card"]["id"] for view in service.client.get("/v1/priors").json()["items"]]
    return (
        service.keys() == set() and list(service.parts.uploads.folder.iterdir()) == [] and listed == [*bundled_cards()]
    )


def await_nothing(service):
    """Deleted bytes are removed by a thread of the service."""
    deadline, tick = time.monotonic() + 20.0, threading.Event()
    while not nothing_is_left(service):
        assert time.monotonic() < deadline
        tick.wait(0.01)


@pytest.fixture
def own(service, own_card, tensors):
    """The id of a prior that lies in the service."""
    service.parts.prior_catalog.add(own_card, tensors, owner="local")
    return own_card.id


@pytest.fixture
def store_is_down(service, monkeypatch):
    def down(*_, **__):
        raise StoreError("the store does not answer")

    for method in ("put_file", "put_bytes", "get_bytes", "read", "list", "delete"):
        monkeypatch.setattr(service.parts.store, method, down)


@pytest.fixture
def records_are_down(service):
    service.parts.database.close()
    records = service.parts.settings.data_dir / "records.sqlite3"
    records.unlink()
    records.mkdir()


def test_the_bundled_priors_are_there_from_the_start(service):
    listed = service.client.get("/v1/priors").json()["items"]
    assert [view["card"]["id"] for view in listed] == [*bundled_cards()]
    for view in listed:
        assert view["bundled"]
        assert service.client.get(f"/v1/priors/{view['card']['id']}").json() == view
    assert {view["card"]["id"] for view in listed if view["default"]} == set(DEFAULTS.values())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/priors/never"),
        ("GET", "/v1/priors/never/files/card.json"),
        ("GET", f"/v1/priors/{BUNDLED}/files/split.json"),
        ("POST", "/v1/priors/never/promote"),
        ("POST", "/v1/priors/none/promote"),
        ("DELETE", "/v1/priors/never"),
        ("DELETE", "/v1/priors/none"),
    ],
)
def test_what_is_not_there_is_not_found(shared_service, method, path):
    assert told(shared_service.client.request(method, path)) == (404, "not_found")


@pytest.mark.parametrize("prior_id", [BUNDLED, "own-v1"])
def test_files_are_downloaded_whole_and_in_part(service, own, tensors, prior_id):
    view = service.client.get(f"/v1/priors/{prior_id}").json()
    assert {file["name"] for file in view["files"]} >= {"prior.safetensors", "card.json"}
    for file in view["files"]:
        response = service.client.get(file["href"])
        assert hashlib.sha256(response.content).hexdigest() == file["sha256"]
        assert len(response.content) == file["num_bytes"] == int(response.headers["Content-Length"])
        assert response.headers["ETag"] == f'"{file["sha256"]}"'
        again = service.client.get(file["href"], headers={"If-None-Match": response.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
    href = view["files"][0]["href"]
    part = service.client.get(href, headers={"Range": "bytes=10-29"})
    assert (part.status_code, part.content) == (206, tensors.read_bytes()[10:30])
    assert told(service.client.get(href, headers={"Range": "bytes=99999999-"})) == (416, "range_not_satisfiable")


def test_a_prior_from_elsewhere_is_checked_and_kept(service, own_card, tensors):
    response = post(service, own_card.model_copy(update={"id": "theirs"}), tensors.read_bytes(), id="own-v1")
    assert response.status_code == 201, response.text
    view = response.json()
    assert response.headers["Location"] == "/v1/priors/own-v1"
    assert view["card"] == own_card.model_dump(mode="json")
    assert (view["bundled"], view["default"]) == (False, False)
    assert service.client.get("/v1/priors/own-v1").json() == view
    assert service.client.get("/v1/priors").json()["items"][-1] == view
    assert service.parts.store.get_bytes("priors/own-v1/prior.safetensors") == tensors.read_bytes()
    assert list(service.parts.uploads.folder.iterdir()) == []


def test_the_same_prior_again_is_answered_without_another_check(service, own, own_card, tensors, monkeypatch):
    monkeypatch.setattr("service.priors.intake.run_check", None)
    again = post(service, own_card, tensors.read_bytes())
    assert (again.status_code, again.json()["card"]["id"]) == (200, own)
    bundled = post(service, own_card, tensors.read_bytes(), id=BUNDLED)
    assert (bundled.status_code, bundled.json()["bundled"]) == (200, True)


def test_an_id_that_is_taken_is_a_conflict(service, own, own_card, tensors):
    data = tensors.read_bytes()
    other = own_card.model_copy(update={"num_steps": 1})
    assert told(post(service, other, data)) == (409, "conflict")
    for prior_id in (BUNDLED, "none", "promotions"):
        assert told(post(service, other, data, id=prior_id)) == (409, "conflict")
    assert service.client.delete("/v1/priors/own-v1").status_code == 204
    assert told(post(service, own_card, data)) == (409, "conflict")
    await_nothing(service)


def test_rubbish_is_refused_and_nothing_is_left(service, own_card):
    rubbish = b"these are no tensors"
    response = post(service, card_of(own_card, rubbish), rubbish)
    assert told(response) == (422, "invalid_prior")
    assert "cannot be read" in response.json()["title"]
    assert nothing_is_left(service)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda card: b"{}", "invalid_prior"),
        (lambda card: b"\xff", "invalid_prior"),
        (lambda card: card.model_copy(update={"sha256": "0" * 64}), "invalid_prior"),
        (lambda card: card.model_copy(update={"num_bytes": 1}), "invalid_prior"),
        (lambda card: card.model_copy(update={"search_space": "enas"}), "unknown_name"),
        (lambda card: json.dumps({**card.model_dump(mode="json"), "id": "../up"}).encode(), "invalid_prior"),
        (lambda card: json.dumps({**card.model_dump(mode="json"), "schema_version": 2}).encode(), "invalid_prior"),
    ],
)
def test_a_card_that_tells_of_something_else_is_refused(service, own_card, tensors, change, code):
    assert told(post(service, change(own_card), tensors.read_bytes())) == (422, code)
    assert nothing_is_left(service)


@pytest.mark.parametrize("fields", [{"id": "../up"}, {"id": ""}, {"id": "a\n"}, {"owner": "me"}])
def test_fields_that_cannot_be_accepted_are_refused(service, own_card, tensors, fields):
    assert told(post(service, own_card, tensors.read_bytes(), **fields)) == (422, "invalid_request")
    assert nothing_is_left(service)


@pytest.mark.parametrize(
    "request_body",
    [
        {"json": {}},
        {"files": {"card": ("card.json", b"{}", "application/json")}},
        {"files": {"tensors": ("prior.safetensors", b"", "application/octet-stream")}},
        {"files": {"card": (None, "{}"), "tensors": ("prior.safetensors", b"", "application/octet-stream")}},
        {"files": {"dataset": ("pets.zip", b"PK", "application/zip")}},
    ],
)
def test_a_body_without_both_files_is_refused(shared_service, request_body):
    assert told(shared_service.client.post("/v1/priors", **request_body)) == (422, "invalid_request")


def test_what_is_too_large_is_refused(new_service, tmp_path, own_card):
    with new_service(tmp_path, max_prior_bytes=1000) as service:
        response = post(service, own_card, b"\0" * 1001)
        assert told(response) == (413, "too_large")
        assert "1000 bytes" in response.json()["detail"]
        assert "ARCHPRIOR_MAX_PRIOR_BYTES" in response.json()["todo"]
        assert told(post(service, b" " * 5_000_000, b"")) == (413, "too_large")
        assert nothing_is_left(service)


def test_an_upload_that_breaks_off_leaves_nothing(service, own_card):
    head = '--b\r\nContent-Disposition: form-data; name="tensors"; filename="a"\r\n\r\nhalf of it'
    response = service.client.post(
        "/v1/priors", content=head.encode(), headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert told(response) == (400, "invalid_body")
    assert nothing_is_left(service)


def test_a_check_that_is_killed_says_nothing_of_the_prior_and_leaves_nothing(service, own_card, tensors, monkeypatch):
    def killed(*_):
        raise CheckKilledError("the check of the prior was killed", got="SIGKILL")

    monkeypatch.setattr("service.priors.intake.run_check", killed)
    assert told(post(service, own_card, tensors.read_bytes())) == (503, "check_killed")
    assert nothing_is_left(service)


def test_a_service_that_ends_kills_the_checks_of_priors_too(new_service, tmp_path):
    with subprocess.Popen(["tail", "-f", "/dev/null"]) as check:
        with new_service(tmp_path) as service:
            service.parts.prior_intake.checks.add(check)
        assert check.wait(30) == -signal.SIGKILL


def test_the_promoted_prior_is_what_later_adaptations_begin_from(service, own, small_zip):
    dataset = service.add_dataset(small_zip)["id"]
    before = service.adapt(dataset_id=dataset)
    promoted = service.client.post(f"/v1/priors/{own}/promote")
    assert (promoted.status_code, promoted.json()["default"]) == (200, True)
    after = service.adapt(dataset_id=dataset)
    assert (before["request"]["prior"], after["request"]["prior"]) == (BUNDLED, own)
    assert service.client.get(f"/v1/adaptations/{before['id']}").json()["request"]["prior"] == BUNDLED
    assert service.client.get("/v1/search-spaces/nas_bench_201").json()["default_prior"] == own
    assert not service.client.get(f"/v1/priors/{BUNDLED}").json()["default"]


def test_promotions_are_told_newest_first(service, own):
    nothing = {"items": [], "next_cursor": None}
    assert service.client.get("/v1/priors/promotions").json() == nothing
    for prior_id in (own, own, BUNDLED):
        assert service.client.post(f"/v1/priors/{prior_id}/promote").status_code == 200
    listed = service.client.get("/v1/priors/promotions", params={"search_space": "nas_bench_201"}).json()
    assert [one["prior_id"] for one in listed["items"]] == [BUNDLED, own, own]
    assert service.client.get("/v1/priors/promotions").json() == listed
    assert service.client.get("/v1/priors/promotions?search_space=darts").json() == nothing
    first = service.client.get("/v1/priors/promotions?limit=1").json()
    rest = service.client.get("/v1/priors/promotions", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert (first["items"] + rest["items"], rest["next_cursor"]) == (listed["items"], None)
    assert told(service.client.get("/v1/priors/promotions?cursor=x")) == (422, "invalid_request")
    assert told(service.client.get("/v1/priors/promotions?limit=0")) == (422, "invalid_request")


def test_a_prior_is_deleted_once_and_its_bytes_soon_after(service, own):
    assert service.client.delete(f"/v1/priors/{own}").status_code == 204
    await_nothing(service)
    for method in ("GET", "DELETE"):
        assert told(service.client.request(method, f"/v1/priors/{own}")) == (404, "not_found")


def test_a_prior_that_is_needed_is_not_deleted(service, own, small_zip):
    adaptation = service.adapt(dataset_id=service.add_dataset(small_zip)["id"], prior=own)
    refused = service.client.delete(f"/v1/priors/{own}")
    assert told(refused) == (409, "conflict")
    assert adaptation["id"] in refused.json()["title"]
    assert told(service.client.delete(f"/v1/priors/{BUNDLED}")) == (409, "conflict")
    service.job(adaptation["id"]).succeed()
    service.await_state(adaptation["id"], "SUCCEEDED")
    service.client.post(f"/v1/priors/{own}/promote")
    assert told(service.client.delete(f"/v1/priors/{own}")) == (409, "conflict")
    service.client.post(f"/v1/priors/{BUNDLED}/promote")
    assert service.client.delete(f"/v1/priors/{own}").status_code == 204


def test_without_the_store_nothing_is_imported_or_downloaded(
    service, own, own_card, tensors, monkeypatch, store_is_down
):
    monkeypatch.setattr("service.priors.intake.run_check", lambda *_: None)
    assert told(post(service, own_card, tensors.read_bytes(), id="other-v1")) == (503, "store_error")
    for method, path in (
        ("GET", ""),
        ("GET", f"/{own}"),
        ("GET", f"/{own}/files/card.json"),
        ("POST", f"/{own}/promote"),
    ):
        assert told(service.client.request(method, f"/v1/priors{path}")) == (503, "store_error")


def test_without_the_records_every_route_says_so(service, own_card, tensors, records_are_down):
    assert told(post(service, own_card, tensors.read_bytes())) == (503, "records_unavailable")
    for method, path in (
        ("GET", ""),
        ("GET", "/own-v1"),
        ("GET", "/promotions"),
        ("GET", "/own-v1/files/card.json"),
        ("POST", f"/{BUNDLED}/promote"),
        ("DELETE", "/own-v1"),
    ):
        assert told(service.client.request(method, f"/v1/priors{path}")) == (503, "records_unavailable")
