import hashlib
import io
import signal
import subprocess
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from workers.tasks.check_process import CheckKilledError


def post(service, data, filename="pets.zip", **fields):
    return service.client.post("/v1/datasets", files={"dataset": (filename, data, "application/zip")}, data=fields)


def test_a_zip_becomes_a_dataset_with_its_bytes_in_the_store(service, small_zip):
    response = post(service, small_zip, filename=r"C:\folder\pets.zip")
    assert response.status_code == 201
    view = response.json()
    assert response.headers["Location"] == f"/v1/datasets/{view['id']}"
    assert view["name"] == "pets"
    assert view["sha256"] == hashlib.sha256(small_zip).hexdigest()
    assert view["num_bytes"] == len(small_zip)
    assert view["report"]["classes"] == ["cat", "dog"]
    assert service.parts.store.get_bytes(f"datasets/{view['sha256']}/archive.zip") == small_zip
    assert service.client.get(response.headers["Location"]).json() == view
    assert service.client.get("/v1/datasets").json() == {"items": [view], "next_cursor": None}


def test_the_same_bytes_are_the_same_dataset(shared_service, small_zip):
    again = post(shared_service, small_zip, filename="other.zip")
    assert again.status_code == 200
    assert again.json() == shared_service.dataset


def test_a_dataset_may_be_given_a_name(service, small_zip):
    assert post(service, small_zip, name="My pets\x00").json()["name"] == "My pets"


def test_nobody_learns_from_a_dataset_whose_owner_has_not_said_so(service, small_zip):
    view = post(service, small_zip).json()
    assert (view["meta_use"], view["terms"]) == (False, "not stated")
    again = post(service, small_zip)
    assert (again.status_code, again.json()) == (200, view)


def test_what_comes_with_known_bytes_holds_and_what_does_not_come_stays(service, small_zip):
    view = post(service, small_zip, meta_use="true", terms="CC0").json()
    for fields, changes in (
        ({"meta_use": "false"}, {"meta_use": False}),
        ({"terms": "CC BY 4.0"}, {"terms": "CC BY 4.0"}),
        ({"name": "My pets\x00"}, {"name": "My pets"}),
        ({"name": "", "meta_use": "true"}, {"meta_use": True}),
    ):
        view |= changes
        again = post(service, small_zip, filename="other.zip", **fields)
        assert (again.status_code, again.json()) == (200, view)
        assert service.client.get(f"/v1/datasets/{view['id']}").json() == view


def test_of_the_same_bytes_at_once_the_second_says_what_holds(service, small_zip, monkeypatch):
    view = post(service, small_zip, meta_use="true").json()
    find, looks = service.parts.datasets.find, iter([True])

    def too_early(sha256, *, owner):
        return None if next(looks, False) else find(sha256, owner=owner)

    monkeypatch.setattr(service.parts.datasets, "find", too_early)
    again = post(service, small_zip, meta_use="false")
    assert (again.status_code, again.json()) == (200, {**view, "meta_use": False})


def test_an_owner_says_whether_and_under_which_terms_a_dataset_is_learned_from(service, small_zip):
    view = post(service, small_zip, meta_use="true", terms="CC BY 4.0").json()
    assert (view["meta_use"], view["terms"]) == (True, "CC BY 4.0")
    path = f"/v1/datasets/{view['id']}"
    changed = service.client.patch(path, json={"meta_use": False})
    assert (changed.status_code, changed.json()) == (200, {**view, "meta_use": False})
    changed = service.client.patch(path, json={"terms": "CC0"}).json()
    assert changed == {**view, "meta_use": False, "terms": "CC0"}
    assert service.client.patch(path, json={}).json() == changed
    assert service.client.get(path).json() == changed
    assert service.client.get("/v1/datasets").json()["items"] == [changed]


def test_a_dataset_that_comes_with_an_adaptation_is_not_learned_from(service, small_zip):
    files = {"dataset": ("pets.zip", small_zip, "application/zip")}
    assert service.client.post("/v1/adaptations", files=files, data={"prior": "none"}).status_code == 202
    (view,) = service.client.get("/v1/datasets").json()["items"]
    assert view["meta_use"] is False


@pytest.mark.parametrize("fields", [{"meta_use": "perhaps"}, {"terms": ""}, {"terms": "x" * 201}, {"id": "ds-1"}])
def test_a_dataset_with_wrong_fields_is_refused_and_nothing_is_kept(service, small_zip, fields):
    response = post(service, small_zip, **fields)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert service.keys() == set()


@pytest.mark.parametrize("change", [{"meta_use": "perhaps"}, {"terms": ""}, {"terms": "x" * 201}, {"name": "x"}])
def test_a_change_that_cannot_be_made_is_refused(shared_service, change):
    path = f"/v1/datasets/{shared_service.dataset['id']}"
    response = shared_service.client.patch(path, json=change)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert shared_service.client.get(path).json() == shared_service.dataset


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "zip"),
        (b"these bytes are no zip", "zip"),
        ({"cat": 6}, "too few classes"),
        ({"cat": 6, "dog": 1}, "class dog has too few"),
    ],
)
def test_what_is_no_dataset_is_refused_and_nothing_is_kept(service, make_zip, data, reason):
    response = post(service, data if isinstance(data, bytes) else make_zip(data))
    problem = response.json()
    assert response.status_code == 422, problem
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["code"] == "invalid_dataset"
    assert reason in f"{problem['title']} {problem['detail']}"
    assert problem["instance"] == "/v1/datasets"
    assert service.keys() == set()
    assert list(service.parts.uploads.folder.iterdir()) == []
    assert service.client.get("/v1/datasets").json()["items"] == []


def test_archives_are_checked_a_few_at_a_time(service, make_zip, monkeypatch):
    running, most, pause = [], [], threading.Event()

    def slow_check(*arguments):
        running.append(arguments)
        most.append(len(running))
        pause.wait(0.05)
        running.pop()
        raise CheckKilledError("the check of the archive was killed", got="SIGKILL")

    monkeypatch.setattr("service.datasets.intake.run_check", slow_check)
    service.parts.intake_threads.total_tokens = 1
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda shade: post(service, make_zip({"cat": 6, "dog": 6}, shade=shade)), range(4)))
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "check_killed")}
    assert most == [1, 1, 1, 1]


def test_a_service_that_ends_kills_the_checks_that_run(new_service, tmp_path):
    with subprocess.Popen(["tail", "-f", "/dev/null"]) as check:
        with new_service(tmp_path) as service:
            service.parts.intake.checks.add(check)
        assert check.wait(30) == -signal.SIGKILL


def test_a_zip_with_a_path_that_climbs_is_refused_with_its_name(service, small_zip):
    data = io.BytesIO(small_zip)
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr("../escaped.png", b"x")
    response = post(service, data.getvalue())
    assert response.status_code == 422
    assert "../escaped.png" in response.text


def test_an_upload_over_the_limit_is_refused_before_it_is_read(service):
    response = post(service, b"\0" * 3_000_000)
    assert response.status_code == 413
    assert response.json()["code"] == "too_large"
    assert "200000" in response.json()["detail"]


def test_an_upload_that_does_not_tell_its_size_is_cut_off_at_the_limit(service):
    boundary = "frontier"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="dataset"; filename="a.zip"\r\n\r\n'.encode()
    response = service.client.post(
        "/v1/datasets",
        content=iter([head, *[b"\0" * 50_000] * 5]),
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    assert response.status_code == 413
    assert list(service.parts.uploads.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{}", "application/json", 422, "invalid_request"),
        (b"{", "application/json", 400, "invalid_body"),
        (b"[]", "application/json", 400, "invalid_body"),
        (b"PK", "application/zip", 415, "unsupported_media_type"),
        (b"", "multipart/form-data", 415, "unsupported_media_type"),
        (b"no form", "multipart/form-data; boundary=b", 400, "invalid_body"),
        (b"no form", f"multipart/form-data; boundary={'b' * 500}", 400, "invalid_body"),
        (b"--b\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b", 400, "invalid_body"),
        (
            b'--b\r\nContent-Disposition: form-data; name="dataset"; filename="a"\r\n\r\nhalf of it',
            "multipart/form-data; boundary=b",
            400,
            "invalid_body",
        ),
    ],
)
def test_a_body_that_cannot_be_used_is_refused(shared_service, body, content_type, status, code):
    response = shared_service.client.post("/v1/datasets", content=body, headers={"Content-Type": content_type})
    assert (response.status_code, response.json()["code"]) == (status, code), response.text


@pytest.mark.parametrize(
    "files",
    [
        {"archive": ("a.zip", b"PK", "application/zip")},
        {"dataset": (None, "a string, no file")},
        {"dataset": ("a.zip", b"PK", "application/zip"), "owner": (None, "me")},
        [("name", (None, "one")), ("name", (None, "two"))],
        [("dataset", ("a.zip", b"PK", "application/zip"))] * 2,
    ],
)
def test_a_form_with_wrong_fields_is_refused(shared_service, files):
    response = shared_service.client.post("/v1/datasets", files=files)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request"), response.text


def test_a_string_in_place_of_the_file_is_told_how_curl_sends_one(shared_service):
    response = shared_service.client.post("/v1/datasets", files={"dataset": (None, "pets.zip")})
    assert response.json()["title"] == "The field dataset is no file"
    assert "dataset=@pets.zip" in response.json()["todo"]


def test_bytes_after_the_end_of_a_form_are_bounded(shared_service):
    response = shared_service.client.post(
        "/v1/datasets",
        content=iter([b"--b--\r\n", *[b"\0" * 500_000] * 5]),
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_a_form_with_too_much_in_it_is_refused(shared_service):
    many = [(f"field{number}", (None, "x")) for number in range(60)]
    assert shared_service.client.post("/v1/datasets", files=many).status_code == 413
    long = [("name", (None, "x" * 20_000))]
    assert shared_service.client.post("/v1/datasets", files=long).status_code == 413


def test_a_dataset_that_does_not_exist_is_not_found(shared_service):
    path = "/v1/datasets/ds-none"
    for response in (shared_service.client.get(path), shared_service.client.patch(path, json={"meta_use": True})):
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=many", "cursor=none"])
def test_a_list_with_a_wrong_query_is_refused(shared_service, query):
    response = shared_service.client.get(f"/v1/datasets?{query}")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
