"""What a client has already is not sent again."""

import pytest

from workers.priors.registry import DEFAULTS

BUNDLED = DEFAULTS["nas_bench_201"]


@pytest.fixture(params=["adaptation", "meta-run", "dataset", "prior"])
def path(request, service, make_zip) -> str:
    dataset = service.add_dataset(make_zip(dict.fromkeys("abcdefghijkl", 6)))
    service.client.patch(f"/v1/datasets/{dataset['id']}", json={"meta_use": True})
    match request.param:
        case "adaptation":
            adaptation = service.adapt(dataset_id=dataset["id"])
            service.await_submission()  # nothing changes any more
            return f"/v1/adaptations/{adaptation['id']}"
        case "meta-run":
            response = service.client.post("/v1/meta-runs", json={"datasets": [{"dataset_id": dataset["id"]}]})
            service.await_submission()
            return str(response.headers["Location"])
        case "dataset":
            return f"/v1/datasets/{dataset['id']}"
        case _:
            return f"/v1/priors/{BUNDLED}"


def test_a_body_that_the_client_has_is_not_sent_again(service, path):
    first = service.client.get(path)
    etag = first.headers["ETag"]
    assert etag.startswith('W/"')
    assert first.headers["Cache-Control"] == "private, no-cache"
    for known in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
        again = service.client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    for other in ('"other"', "", etag[:-3], etag.strip('W/"')):
        again = service.client.get(path, headers={"If-None-Match": other})
        assert (again.status_code, again.json()) == (200, first.json())


def test_a_change_is_sent(service, small_zip):
    adaptation = service.adapt(dataset_id=service.add_dataset(small_zip)["id"])
    path = f"/v1/adaptations/{adaptation['id']}"
    etag = service.client.get(path).headers["ETag"]
    service.client.post(f"{path}/cancel")
    changed = service.client.get(path, headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.json()["state"] in {"CANCELLING", "CANCELLED"}
    assert changed.headers["ETag"] != etag


def test_what_is_not_there_has_no_etag(shared_service):
    missing = shared_service.client.get("/v1/adaptations/ad-000000000000", headers={"If-None-Match": "*"})
    assert (missing.status_code, "ETag" in missing.headers) == (404, False)
