"""Events over HTTP."""

import json
import threading

import httpx
import pytest

from service.app import create_app
from service.cli.listening import AnnouncingServer
from service.settings import Settings

STREAM = {"Accept": "text/event-stream"}
TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def adaptation(shared_service):
    adaptation = shared_service.adapt(dataset_id=shared_service.dataset["id"], prior="none")
    return shared_service.await_state(adaptation["id"], "RUNNING")


@pytest.fixture(autouse=True)
def often(shared_service, monkeypatch):
    monkeypatch.setattr(shared_service.parts.hub, "_interval_s", 0.01)


def path_of(adaptation):
    return f"/v1/adaptations/{adaptation['id']}/events"


def messages(lines):
    """Each message as (event, id, data)."""
    found, fields = [], {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = value
        elif fields:
            found.append((fields.get("event"), fields.get("id"), json.loads(fields["data"])))
            fields = {}
    return found


def test_events_come_in_parts(shared_service, adaptation):
    path = path_of(adaptation)
    page = shared_service.client.get(path, params={"limit": 1}).json()
    assert [(one["kind"], one["sequence"]) for one in page["items"]] == [("adaptation.queued", 1)]
    rest = shared_service.client.get(path, params={"after": page["next_after"]}).json()
    assert [one["kind"] for one in rest["items"]] == ["adaptation.running"]
    assert shared_service.client.get(path, params={"after": 2}).json() == {"items": [], "next_after": 2}
    assert shared_service.client.get(path, params={"after": -1}).status_code == 422


def test_an_adaptation_is_followed_to_its_end_and_taken_up_again(new_service, tmp_path, small_zip, monkeypatch):
    with new_service(tmp_path / "data") as service:
        monkeypatch.setattr(service.parts.hub, "_interval_s", 0.01)
        adaptation = service.adapt(dataset_id=service.add_dataset(small_zip)["id"], prior="none")
        service.await_submission()
        job = service.job(adaptation["id"])
        lines = []
        with service.client.stream("GET", path_of(adaptation), headers=STREAM) as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            for line in response.iter_lines():
                lines.append(line)
                if line == "id: 2":
                    job.progress()
                if line == "event: progress":
                    job.succeed()
                    service.parts.loop.wake()
        told = messages(lines)
        states = [(number, data["kind"]) for event, number, data in told if event is None]
        assert states == [
            ("1", "adaptation.queued"),
            ("2", "adaptation.running"),
            ("3", "adaptation.succeeded"),
        ]
        assert [data["phase"] for event, number, data in told if event == "progress" and number is None]
        again = service.client.get(path_of(adaptation), headers={**STREAM, "Last-Event-ID": "2"})
        assert [number for _, number, _ in messages(again.text.splitlines())] == ["3"]
        for known in ({"headers": {**STREAM, "Last-Event-ID": "3"}}, {"headers": STREAM, "params": {"after": 3}}):
            assert service.client.get(path_of(adaptation), **known).status_code == 204
        garbage = service.client.get(path_of(adaptation), headers={**STREAM, "Last-Event-ID": "1-x"})
        assert len(messages(garbage.text.splitlines())) == 3
        assert service.parts.hub.num_streams == 0


def test_a_dataset_that_is_ready_has_told_so(shared_service):
    path = f"/v1/datasets/{shared_service.dataset['id']}/events"
    assert [one["kind"] for one in shared_service.client.get(path).json()["items"]] == ["dataset.ready"]
    followed = shared_service.client.get(path, headers=STREAM)
    assert [data["kind"] for _, _, data in messages(followed.text.splitlines())] == ["dataset.ready"]
    assert shared_service.client.get(path, headers={**STREAM, "Last-Event-ID": "1"}).status_code == 204


@pytest.mark.parametrize("path", ["/v1/adaptations/ad-none/events", "/v1/datasets/ds-none/events"])
def test_what_is_not_there_has_no_events(shared_service, path):
    for headers in ({}, STREAM):
        assert shared_service.client.get(path, headers=headers).status_code == 404


def test_who_leaves_is_forgotten_and_too_many_are_refused(shared_service, adaptation, monkeypatch):
    hub = shared_service.parts.hub
    monkeypatch.setattr(hub, "_max_of_owner", 1)
    with shared_service.client.stream("GET", path_of(adaptation), headers=STREAM) as response:
        lines = response.iter_lines()
        next(lines)
        refused = shared_service.client.get(path_of(adaptation), headers=STREAM)
        assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert int(refused.headers["Retry-After"]) > 0
    left = threading.Event()
    for _ in range(1000):
        if hub.num_streams == 0:
            break
        left.wait(0.01)
    assert hub.num_streams == 0


def test_a_service_that_stops_ends_its_streams(tmp_path, cluster, small_zip):
    import uvicorn

    app = create_app(Settings(data_dir=tmp_path / "data", reconcile_interval_s=60.0), cluster=lambda _: cluster)
    # For longer than the test may last: what holds the server up is not cut off.
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=600)
    addresses, listening = [], threading.Event()

    def on_listening(url):
        addresses.append(url)
        listening.set()

    server = AnnouncingServer(config, tmp_path / "data", on_listening, lambda: app.state.parts.hub.close())
    thread = threading.Thread(target=server.run)
    thread.start()
    assert listening.wait(TIMEOUT_S)
    with httpx.Client(base_url=addresses[0], timeout=TIMEOUT_S, trust_env=False) as client:
        form = {"dataset": ("pets.zip", small_zip, "application/zip")}
        adaptation = client.post("/v1/adaptations", files=form, data={"prior": "none"}).json()
        with client.stream("GET", path_of(adaptation), headers=STREAM) as response:
            lines = []
            for line in response.iter_lines():
                lines.append(line)
                server.should_exit = True
    assert any(line.startswith(": the stream ends here") for line in lines)
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()
