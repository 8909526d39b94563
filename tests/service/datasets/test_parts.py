import hashlib
import os
import shutil
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from service.records.owners import OwnerRecords
from workers.store import layout

TIMEOUT_S = 20.0


def sha256_of(data):
    return hashlib.sha256(data).hexdigest()


def refused(response, status, code):
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    return response.json()


def num_uploads(service):
    """How many uploads the store holds the parts of."""
    return sum(path.is_dir() for path in (service.parts.settings.data_dir / "objects" / ".partial").iterdir())


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_dataset_that_arrives_in_parts_is_checked_and_ready(
    kind, request, new_service, sender_to, small_parts, tmp_path, small_zip
):
    settings = {}
    if kind == "s3":
        request.getfixturevalue("s3_environment")
        settings["store_url"] = f"s3://parts-{uuid.uuid4().hex[:12]}/prefix"
    with new_service(tmp_path / "data", **settings) as service:
        sender = sender_to(service)
        begun = sender.begin(small_zip, name="pets", meta_use=True, terms="CC0", sha256=sha256_of(small_zip))
        assert (begun["state"], begun["sha256"], begun["report"]) == ("UPLOADING", None, None)
        assert begun["upload"]["num_parts"] > 3
        sender.put(begun, small_zip)
        assert all(part["arrived"] for part in sender.parts(begun))
        assert sender.complete(begun).json()["state"] in {"CHECKING", "READY"}
        view = sender.settled(begun["id"])
        assert (view["state"], view["sha256"], view["num_bytes"]) == ("READY", sha256_of(small_zip), len(small_zip))
        assert (view["name"], view["meta_use"], view["terms"], view["upload"]) == ("pets", True, "CC0", None)
        assert view["report"]["classes"] == ["cat", "dog"]
        assert view["findings"]["suggested_split"]
        store = service.parts.store
        assert store.get_bytes(layout.dataset_archive(view["sha256"])) == small_zip
        assert list(store.list("uploads/")) == []
        assert list(service.parts.uploads.folder.iterdir()) == []
        # It is a dataset as any other, and completing it again changes nothing.
        assert sender.complete(begun).json() == view
        service.adapt(dataset_id=view["id"], prior="none")
        picture = service.client.get(view["thumbnails"])
        assert (picture.headers["Content-Type"], picture.content[:2]) == ("image/jpeg", b"\xff\xd8")
        assert service.client.get("/v1/datasets", params={"state": "READY"}).json()["items"] == [view]
        assert service.client.get("/v1/datasets", params={"state": "CHECKING"}).json()["items"] == []


def test_parts_may_come_again_and_the_list_says_which_are_missing(sender, small_zip):
    begun = sender.begin(small_zip)
    sender.put(begun, small_zip, leave_out=frozenset({2, 3}))
    problem = refused(sender.complete(begun), 422, "invalid_option")
    assert "numbers 2, 3" in problem["detail"]
    assert [part["number"] for part in sender.parts(begun, limit=1000) if not part["arrived"]] == [2, 3]
    shown = sender.client.get(f"/v1/datasets/{begun['id']}").json()
    assert shown["upload"]["num_arrived"] == shown["upload"]["num_parts"] - 2
    sender.put(begun, small_zip)
    assert sender.complete(begun).status_code == 202
    assert sender.settled(begun["id"])["state"] == "READY"


def test_the_list_of_parts_goes_on_where_it_ended(sender, small_zip):
    begun = sender.begin(small_zip)
    num_parts, seen, after = begun["upload"]["num_parts"], [], 0
    while after is not None:
        page = sender.client.get(begun["upload"]["parts"], params={"after": after, "limit": 2}).json()
        seen += [part["number"] for part in page["items"]]
        after = page["next_after"]
    assert seen == list(range(1, num_parts + 1))
    page = sender.client.get(begun["upload"]["parts"], params={"after": num_parts}).json()
    assert page == {"items": [], "next_after": None}


def test_a_part_of_another_size_or_number_is_refused(sender, small_zip):
    begun = sender.begin(small_zip)
    part = sender.parts(begun)[0]
    for body in (b"", b"x" * (part["num_bytes"] - 1), b"x" * (part["num_bytes"] + 1), iter([b"x" * 10])):
        refused(sender.client.put(part["href"], content=body), 422, "invalid_request")
    num_parts = begun["upload"]["num_parts"]
    refused(sender.client.put(f"{begun['upload']['parts']}/{num_parts + 1}", content=b"x"), 404, "not_found")
    refused(sender.client.put(f"{begun['upload']['parts']}/0", content=b"x"), 422, "invalid_request")
    assert sender.client.get(f"/v1/datasets/{begun['id']}").json()["upload"]["num_arrived"] == 0


def test_what_is_not_ready_cannot_be_used_nor_changed(sender, small_zip):
    begun = sender.begin(small_zip)
    for answer in (
        sender.client.post("/v1/adaptations", json={"dataset_id": begun["id"], "prior": "none"}),
        sender.client.post("/v1/meta-runs", json={"datasets": [{"dataset_id": begun["id"]}]}),
        sender.client.patch(f"/v1/datasets/{begun['id']}", json={"meta_use": True}),
        sender.client.get(f"/v1/datasets/{begun['id']}/thumbnails"),
    ):
        assert "complete" in refused(answer, 409, "dataset_not_ready")["todo"]


@pytest.mark.parametrize("declared", [None, "0" * 64])
def test_what_is_no_dataset_or_another_than_was_announced_is_rejected(sender, small_zip, declared):
    data = small_zip if declared else b"no zip" * 200
    view = sender.send(data, **({"sha256": declared} if declared else {}))
    assert (view["state"], view["sha256"], view["report"]) == ("REJECTED", None, None)
    assert view["error"]["code"] == "invalid_dataset"
    if declared:
        assert declared in view["error"]["detail"]
    assert sender.service.keys() == set()
    assert [one["id"] for one in sender.client.get("/v1/datasets?state=REJECTED").json()["items"]] == [view["id"]]
    path = f"/v1/datasets/{view['id']}/parts/1"
    refused(sender.client.put(path, content=b"x"), 409, "conflict")
    # Bytes that are refused take no quota.
    (owner,) = OwnerRecords(sender.service.parts.database).all()
    assert owner.num_bytes == 0


def test_the_same_bytes_sent_again_are_the_older_dataset(sender, small_zip):
    first = sender.send(small_zip, name="first", meta_use=True)
    again = sender.send(small_zip, terms="CC0", meta_use=False)
    assert again == {**first, "terms": "CC0", "meta_use": False}
    by_form = sender.service.add_dataset(small_zip)
    assert by_form == again
    assert sender.client.get("/v1/datasets").json()["items"] == [again]
    (owner,) = OwnerRecords(sender.service.parts.database).all()
    assert owner.num_bytes == len(small_zip)


def test_the_same_bytes_sent_at_once_are_one_dataset(sender, small_zip):
    with ThreadPoolExecutor(4) as pool:
        in_parts = [pool.submit(sender.send, small_zip) for _ in range(2)]
        by_form = [pool.submit(sender.service.add_dataset, small_zip) for _ in range(2)]
        views = [one.result() for one in in_parts + by_form]
    assert len({view["id"] for view in views}) == 1
    assert len(sender.client.get("/v1/datasets").json()["items"]) == 1
    keys = [one.key for one in sender.service.parts.store.list("")]
    assert sum(key.endswith("archive.zip") for key in keys) == 1


def test_the_bytes_of_another_owner_are_checked_before_they_are_shared(sender, small_zip):
    def speak_as(owner):
        token = sender.service.parts.keys.create(owner=owner, role="user")[1]
        sender.client.headers["Authorization"] = f"Bearer {token}"

    speak_as("ann")
    mine = sender.send(small_zip)
    speak_as("bob")
    begun = sender.begin(small_zip, sha256=mine["sha256"])
    # To know a hash is not to have the bytes.
    assert (begun["state"], begun["report"]) == ("UPLOADING", None)
    problem = refused(sender.complete(begun), 422, "invalid_option")
    assert "numbers 1" in problem["detail"]
    for path in (f"/v1/datasets/{mine['id']}", f"/v1/datasets/{mine['id']}/parts"):
        refused(sender.client.get(path), 404, "not_found")
    sender.put(begun, small_zip)
    sender.complete(begun)
    theirs = sender.settled(begun["id"])
    assert (theirs["state"], theirs["sha256"]) == ("READY", mine["sha256"])
    assert theirs["id"] != mine["id"]


def test_bytes_count_from_the_beginning_of_their_upload(new_service, sender_to, tmp_path, small_parts, small_zip):
    with new_service(tmp_path / "data", quota_bytes=2 * len(small_zip) - 1) as service:
        sender_to(service).begin(small_zip)
        answer = service.client.post("/v1/datasets", json={"num_bytes": len(small_zip)})
        refused(answer, 429, "quota_exceeded")
        # Nothing is left of what was refused: one upload waits for its parts.
        assert num_uploads(service) == 1


def test_an_owner_has_so_many_datasets_on_their_way_and_no_more(
    new_service, sender_to, small_parts, tmp_path, small_zip
):
    with new_service(tmp_path / "data", quota_arriving=1) as service:
        sender = sender_to(service)
        begun = sender.begin(small_zip)
        answer = service.client.post("/v1/datasets", json={"num_bytes": len(small_zip)})
        refused(answer, 429, "quota_exceeded")
        assert int(answer.headers["Retry-After"]) > 0
        assert num_uploads(service) == 1
        sender.put(begun, small_zip)
        sender.complete(begun)
        assert sender.settled(begun["id"])["state"] == "READY"
        sender.begin(small_zip)


def test_a_dataset_for_which_the_disk_has_no_room_says_so_while_it_waits(
    new_service, sender_to, small_parts, tmp_path, small_zip, monkeypatch
):
    with new_service(tmp_path / "data") as service:
        sender = sender_to(service)
        begun = sender.begin(small_zip)
        sender.put(begun, small_zip)
        full = shutil.disk_usage(tmp_path)._replace(free=0)
        monkeypatch.setattr("service.disk.shutil.disk_usage", lambda _: full)
        view, deadline = sender.complete(begun).json(), time.monotonic() + TIMEOUT_S
        while view["error"] is None:
            assert time.monotonic() < deadline
            view = service.client.get(f"/v1/datasets/{begun['id']}").json()
        assert (view["state"], view["error"]["code"]) == ("CHECKING", "disk_full")
        assert "ARCHPRIOR_DISK_RESERVE_BYTES" in view["error"]["todo"]


def test_the_same_request_with_the_same_key_begins_one_upload(sender, small_zip):
    headers = {"Idempotency-Key": "one"}
    body = {"num_bytes": len(small_zip)}
    first, again = (sender.client.post("/v1/datasets", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    other = sender.client.post("/v1/datasets", json={"num_bytes": 1}, headers=headers)
    refused(other, 422, "idempotency_key_reused")
    with ThreadPoolExecutor(4) as pool:
        headers = {"Idempotency-Key": "two"}
        posts = [pool.submit(sender.client.post, "/v1/datasets", json=body, headers=headers) for _ in range(4)]
        assert len({post.result().json()["id"] for post in posts}) == 1
    assert num_uploads(sender.service) == 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"num_bytes": 0},
        {"num_bytes": -1},
        {"num_bytes": "x"},
        {"num_bytes": 5, "sha256": "x"},
        {"num_bytes": 5, "x": 1},
    ],
)
def test_an_upload_that_cannot_be_begun_is_refused(shared_service, body):
    refused(shared_service.client.post("/v1/datasets", json=body), 422, "invalid_request")


def test_a_dataset_over_the_limit_is_refused_before_it_arrives(new_service, tmp_path):
    with new_service(tmp_path / "data", max_dataset_bytes=1000) as service:
        problem = refused(service.client.post("/v1/datasets", json={"num_bytes": 1001}), 413, "too_large")
        assert "ARCHPRIOR_MAX_DATASET_BYTES" in problem["todo"]


def test_a_service_that_ends_before_the_check_is_followed_by_one_that_goes_on(
    new_service, sender_to, small_parts, tmp_path, small_zip
):
    with new_service(tmp_path / "data") as service:
        sender = sender_to(service)
        begun = sender.begin(small_zip)
        unfinished = sender.begin(small_zip)
        sender.put(begun, small_zip)
        sender.put(unfinished, small_zip, leave_out=frozenset({2}))
        service.parts.check_loop.stop()
        service.parts.check_loop.join()
        assert sender.complete(begun).json()["state"] == "CHECKING"
        assert service.client.get("/readyz").json()["parts"]["checker"] != "ok"
    for folder in (tmp_path / "data" / "objects" / ".partial").iterdir():
        os.utime(folder, (0, 0))  # however long that was ago
    with new_service(tmp_path / "data") as service:
        sender = sender_to(service)
        assert sender.settled(begun["id"])["state"] == "READY"
        # What had arrived of the other need not come again.
        assert [part["number"] for part in sender.parts(unfinished, limit=1000) if not part["arrived"]] == [2]


def test_two_services_share_the_checks(postgresql, new_service, sender_to, small_parts, tmp_path, small_zip):
    shared = {"database_url": postgresql.new_database(), "store_url": str(tmp_path / "objects"), "single_service": True}
    with ExitStack() as stack:
        first, second = (
            sender_to(stack.enter_context(new_service(tmp_path / name, **shared))) for name in ("first", "second")
        )
        begun = first.begin(small_zip)
        second.put(begun, small_zip)
        assert second.complete(begun).status_code == 202
        assert first.settled(begun["id"])["state"] == "READY"


def test_a_signed_address_needs_no_key_and_takes_no_other_part(
    s3_environment, new_service, sender_to, small_parts, tmp_path, small_zip, monkeypatch
):
    monkeypatch.setenv("ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL", s3_environment)
    with new_service(tmp_path / "data", store_url=f"s3://signed-{uuid.uuid4().hex[:12]}") as service:
        sender = sender_to(service)
        begun = sender.begin(small_zip)
        first, second = sender.parts(begun, limit=2)
        assert first["href"].startswith(s3_environment)
        body = small_zip[: first["num_bytes"]]
        assert httpx.put(first["href"].replace("partNumber=1", "partNumber=2"), content=body).status_code >= 400
        sender.put(begun, small_zip)
        sender.complete(begun)
        assert sender.settled(begun["id"])["state"] == "READY"
        # The bytes that were checked are those that stay: an address that was given before is worth nothing now.
        assert httpx.put(second["href"], content=body).status_code >= 400


def test_a_signed_address_takes_a_part_of_its_size_only(
    s3_environment, new_service, sender_to, small_parts, tmp_path, small_zip, monkeypatch
):
    monkeypatch.setenv("ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL", s3_environment)
    with new_service(tmp_path / "data", store_url=f"s3://signed-{uuid.uuid4().hex[:12]}") as service:
        sender = sender_to(service)
        begun = sender.begin(small_zip)
        (first,) = sender.parts(begun, limit=1)
        for num_bytes in (first["num_bytes"] + 1, 10 * first["num_bytes"], first["num_bytes"] - 1):
            assert httpx.put(first["href"], content=bytes(num_bytes)).status_code >= 400
        assert not sender.parts(begun, limit=1)[0]["arrived"]
        assert sender.client.get(f"/v1/datasets/{begun['id']}").json()["upload"]["num_arrived"] == 0


def test_what_a_server_took_beyond_the_size_that_was_said_is_removed(
    moto_path_environment, new_service, sender_to, small_parts, tmp_path, small_zip, monkeypatch
):
    """Moto checks no signature."""
    monkeypatch.setenv("ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL", moto_path_environment)
    with new_service(tmp_path / "data", store_url=f"s3://signed-{uuid.uuid4().hex[:12]}") as service:
        sender = sender_to(service)
        begun = sender.begin(small_zip)
        (first,) = sender.parts(begun, limit=1)
        httpx.put(first["href"], content=bytes(10 * len(small_zip))).raise_for_status()
        problem = refused(sender.complete(begun), 422, "invalid_dataset")
        assert f"{len(small_zip)} bytes" in problem["detail"]
        view = sender.settled(begun["id"])
        assert (view["state"], view["error"]["code"]) == ("REJECTED", "invalid_dataset")
        assert httpx.put(first["href"], content=b"x").status_code >= 400, "its upload is gone, and what it held"


def test_nothing_is_received_that_would_fill_the_disk(new_service, tmp_path, small_zip):
    with new_service(tmp_path / "data", disk_reserve_bytes=1 << 60) as service:
        begun = service.client.post("/v1/datasets", json={"num_bytes": len(small_zip)}).json()
        (part,) = service.client.get(f"/v1/datasets/{begun['id']}/parts").json()["items"]
        for refused in (
            service.client.put(part["href"], content=small_zip),
            service.client.post("/v1/datasets", files={"dataset": ("pets.zip", small_zip)}),
        ):
            assert (refused.status_code, refused.json()["code"]) == (507, "disk_full")
            assert "ARCHPRIOR_DISK_RESERVE_BYTES" in refused.json()["todo"]
        assert list(service.parts.uploads.folder.iterdir()) == []
