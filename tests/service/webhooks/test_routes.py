"""Webhooks over HTTP, to a real receiver."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from standardwebhooks.webhooks import Webhook


@pytest.fixture(scope="module")
def near(tmp_path_factory, small_zip, new_service):
    """A service whose webhooks may lead to this machine."""
    with new_service(tmp_path_factory.mktemp("near") / "data", webhook_private_addresses=True) as one:
        one.dataset = one.add_dataset(small_zip)
        yield one


def create(service, url, **fields):
    response = service.client.post("/v1/webhooks", json={"url": url, **fields})
    assert response.status_code == 201, response.text
    return response.json()


def verified(receiver, secret, number):
    """The documents that a receiver got, in order."""
    receiver.wait(number)
    return [
        Webhook(secret).verify(body, {k.lower(): v for k, v in headers.items()}) for _, headers, body in receiver.got
    ]


def test_a_webhook_is_made_shown_and_deleted(near):
    response = near.client.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/x", "kinds": ["dataset.rejected"]})
    made = response.json()
    path = response.headers["Location"]
    assert path == f"/v1/webhooks/{made['id']}"
    assert made["secret"].startswith("whsec_")
    shown = near.client.get(path).json()
    assert shown == {**made, "secret": None}
    listed = near.client.get("/v1/webhooks").json()["items"]
    assert shown in listed
    assert "whsec_" not in json.dumps(listed)
    assert near.client.delete(path).status_code == 204
    for response in (near.client.get(path), near.client.delete(path), near.client.get(f"{path}/deliveries")):
        assert response.status_code == 404


def test_the_same_request_makes_one_webhook_and_tells_the_same_secret(near):
    form, key = {"url": "http://127.0.0.1:9/", "kinds": ["dataset.rejected"]}, {"Idempotency-Key": "once"}
    first, again = (near.client.post("/v1/webhooks", json=form, headers=key).json() for _ in range(2))
    assert first == again
    other = near.client.post("/v1/webhooks", json={**form, "url": "http://127.0.0.1:8/"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    near.client.delete(f"/v1/webhooks/{first['id']}")


@pytest.mark.parametrize(
    "form",
    [
        {"url": "https://127.0.0.1/"},
        {"url": "http://lab.example/"},
        {"url": "https://user@lab.example/"},
        {"url": "https://lab.example/", "kinds": ["adaptation.lost"]},
        {"url": "https://lab.example/", "kinds": []},
        {"url": "x"},
        {},
    ],
)
def test_what_cannot_be_a_webhook_is_refused(shared_service, form):
    response = shared_service.client.post("/v1/webhooks", json=form)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert shared_service.client.get("/v1/webhooks").json()["items"] == []


def test_what_happens_is_sent_signed(near, receiver, monkeypatch):
    hook = create(near, receiver.url, kinds=["adaptation.queued", "adaptation.running"])
    adaptation = near.adapt(dataset_id=near.dataset["id"], prior="none")
    near.await_state(adaptation["id"], "RUNNING")
    documents = verified(receiver, hook["secret"], 2)
    assert {one["type"] for one in documents} == {"adaptation.queued", "adaptation.running"}
    assert {one["data"]["links"]["self"] for one in documents} == {f"/v1/adaptations/{adaptation['id']}"}
    assert near.client.get(documents[0]["data"]["links"]["self"]).status_code == 200
    deliveries = near.client.get(f"/v1/webhooks/{hook['id']}/deliveries", params={"limit": 1}).json()
    rest = near.client.get(f"/v1/webhooks/{hook['id']}/deliveries", params={"cursor": deliveries["next_cursor"]}).json()
    told = {one["id"] for one in deliveries["items"] + rest["items"]}
    assert told == {headers["webhook-id"] for _, headers, _ in receiver.got}
    near.client.delete(f"/v1/webhooks/{hook['id']}")


def test_a_webhook_is_tried_at_once(near, receiver):
    receiver.statuses = [204, 503]
    hook = create(near, receiver.url, kinds=["dataset.rejected"])
    taken, refused = (near.client.post(f"/v1/webhooks/{hook['id']}/test").json() for _ in range(2))
    assert (taken["last_status"], taken["last_error"], taken["num_tries"]) == (204, None, 1)
    assert taken["delivered_at"] is not None
    assert (refused["last_status"], refused["delivered_at"], refused["next_at"]) == (503, None, None)
    documents = verified(receiver, hook["secret"], 2)
    assert [one["type"] for one in documents] == ["webhook.test"] * 2
    assert documents[0]["data"]["links"] == {"self": f"/v1/webhooks/{hook['id']}"}
    metrics = near.client.get("/metrics").text
    assert 'archprior_webhook_deliveries_total{outcome="given_up"} 1.0' in metrics


def test_an_owner_tries_one_webhook_at_a_time(near, receiver, new_receiver):
    other = new_receiver()
    hooks = [create(near, one.url, kinds=["dataset.rejected"])["id"] for one in (receiver, other)]
    receiver.released.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(near.client.post, f"/v1/webhooks/{hooks[0]}/test")
        receiver.wait(1)
        for hook in hooks:
            refused = near.client.post(f"/v1/webhooks/{hook}/test")
            assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
            assert int(refused.headers["Retry-After"]) >= 1
        receiver.released.set()
        assert first.result(20.0).json()["last_status"] == 204
    assert near.client.post(f"/v1/webhooks/{hooks[1]}/test").json()["last_status"] == 204
    assert len(receiver.got) == 1
    for hook in hooks:
        near.client.delete(f"/v1/webhooks/{hook}")


def test_a_webhook_to_this_network_is_refused_when_it_is_sent(shared_service):
    hook = create(shared_service, "https://localhost/hook")
    outcome = shared_service.client.post(f"/v1/webhooks/{hook['id']}/test").json()
    assert outcome["last_error"] == "the host has an address that is not public"
    assert outcome["last_status"] is None
    assert shared_service.client.delete(f"/v1/webhooks/{hook['id']}").status_code == 204
