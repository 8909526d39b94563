"""Requests that are sent again: one thing comes of them, whatever broke on the way."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import update

from service.records.clock import DatabaseNow
from service.records.idempotency import KEPT_S
from service.records.tables import IdempotencyRow
from workers.priors.registry import DEFAULTS

ADAPTATIONS, META_RUNS, COMPARE = "/v1/adaptations", "/v1/meta-runs", "/v1/priors/compare"
BUNDLED = DEFAULTS["nas_bench_201"]


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def ids(service, path: str = ADAPTATIONS) -> list[str]:
    return [one["id"] for one in service.client.get(path).json()["items"]]


@pytest.fixture
def dataset(service, small_zip) -> dict[str, object]:
    return service.add_dataset(small_zip)


def test_the_same_request_makes_one_adaptation_and_shows_it_as_it_stands(service, dataset):
    def post():
        return service.client.post(ADAPTATIONS, json={"dataset_id": dataset["id"]}, headers=keyed("k"))

    first = post()
    service.client.post(f"{ADAPTATIONS}/{first.json()['id']}/cancel")
    again = post()
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["Location"] == first.headers["Location"]
    assert first.json()["state"] == "QUEUED"
    assert again.json()["state"] in {"CANCELLING", "CANCELLED"}
    assert ids(service) == [first.json()["id"]]


def test_a_form_sent_again_has_another_boundary_and_is_the_same_request(service, small_zip):
    def post(boundary: str, data: bytes = small_zip):
        files = {"dataset": ("pets.zip", data, "application/zip")}
        headers = keyed("k") | {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return service.client.post(ADAPTATIONS, files=files, data={"seed": "3"}, headers=headers)

    assert post("one").json()["id"] == post("two").json()["id"]
    refused = post("three", small_zip[:-1])
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert len(ids(service)) == 1


def test_another_request_with_the_key_is_refused(service, dataset):
    def post(path: str, **fields):
        return service.client.post(path, json=fields, headers=keyed("k"))

    assert post(ADAPTATIONS, dataset_id=dataset["id"]).status_code == 202
    datasets = [{"dataset_id": dataset["id"]}]
    for refused in (
        post(ADAPTATIONS, dataset_id=dataset["id"], seed=1),
        post(META_RUNS, datasets=datasets),
        post(COMPARE, datasets=datasets, priors=["a", "b"]),
    ):
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
        assert "a key of its own" in refused.json()["todo"]


def test_what_was_refused_leaves_its_key_free(service, dataset):
    def post(**fields):
        return service.client.post(ADAPTATIONS, json=fields, headers=keyed("k"))

    assert post(dataset_id="ds-000000000000").status_code == 404
    assert post(dataset_id=dataset["id"]).status_code == 202


def test_meta_runs_and_comparisons_are_made_once(service, make_zip, own_prior):
    dataset = service.add_dataset(make_zip(dict.fromkeys("abcdefghijkl", 6)))
    service.client.patch(f"/v1/datasets/{dataset['id']}", json={"meta_use": True})
    datasets = [{"dataset_id": dataset["id"]}]
    for path, fields in (
        (META_RUNS, {"datasets": datasets}),
        (COMPARE, {"datasets": datasets, "priors": [BUNDLED, own_prior]}),
    ):
        first, again = (service.client.post(path, json=fields, headers=keyed(path)) for _ in range(2))
        assert first.status_code == 202, first.text
        assert again.json()["id"] == first.json()["id"]
        assert again.headers["Location"] == first.headers["Location"]
    assert len(ids(service, META_RUNS)) == 2


@pytest.fixture
def own_prior(service, own_card, tensors: Path) -> str:
    files = {"card": own_card.model_dump_json().encode(), "tensors": tensors.read_bytes()}
    assert service.client.post("/v1/priors", files=files).status_code == 201
    return own_card.id


def test_of_many_at_once_one_is_made(service, dataset):
    def post(_: int) -> str:
        response = service.client.post(ADAPTATIONS, json={"dataset_id": dataset["id"]}, headers=keyed("k"))
        assert response.status_code == 202, response.text
        return response.json()["id"]

    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(post, range(16)))
    assert made == set(ids(service))
    assert len(made) == 1


def test_a_key_outlives_a_restart(new_service, tmp_path, small_zip):
    made = []
    for _ in range(2):
        with new_service(tmp_path / "data") as service:
            dataset = service.add_dataset(small_zip)
            body = {"dataset_id": dataset["id"]}
            made.append(service.client.post(ADAPTATIONS, json=body, headers=keyed("k")).json()["id"])
    assert made[0] == made[1]


def test_a_key_is_forgotten_after_a_day(service, dataset):
    def post(**fields):
        return service.client.post(ADAPTATIONS, json={"dataset_id": dataset["id"], **fields}, headers=keyed("k"))

    def age(seconds: float) -> None:
        with service.parts.database.transaction() as session:
            session.execute(update(IdempotencyRow).values(created_at=DatabaseNow() - seconds))

    first = post()
    age(KEPT_S - 60)
    assert post().json()["id"] == first.json()["id"]
    age(KEPT_S + 60)
    assert post(seed=1).status_code == 202


@pytest.mark.parametrize("key", ["", "a b", "k" * 129, "ü".encode("latin-1")])
def test_what_is_no_key_is_refused(shared_service, key):
    body = {"dataset_id": shared_service.dataset["id"]}
    headers = [(b"Idempotency-Key", key if isinstance(key, bytes) else key.encode())]
    refused = shared_service.client.post(ADAPTATIONS, json=body, headers=headers)
    assert refused.status_code == 422
    assert re.search("Idempotency-Key", refused.text, re.IGNORECASE)
