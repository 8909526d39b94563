"""Rounds of housekeeping, seen from outside."""

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from service.cli.main import app
from service.housekeeping.tenure import holding
from service.ray.jobs import JobStatus
from workers.store import layout


@pytest.fixture
def service(new_service, tmp_path):
    with new_service(tmp_path / "data", retention_days=30, reconcile_interval_s=0.05) as one:
        yield one


@pytest.fixture
def retried(service, small_zip):
    """An adaptation whose first attempt was lost, and whose second has succeeded; its dataset's keys beside it."""
    adaptation = service.adapt(dataset_id=service.add_dataset(small_zip)["id"], prior="none")
    service.job(adaptation["id"]).progress()
    service.parts.store.put_bytes(f"{layout.attempt(adaptation['id'], 1)}/weights.safetensors", bytes(1000))
    first = service.await_submission()
    service.jobs.set(first, JobStatus.FAILED)
    assert service.await_submission() == f"{adaptation['id']}-a2"
    service.job(adaptation["id"], 2).succeed()
    return service.await_state(adaptation["id"], "SUCCEEDED")


def gc(service, **body):
    response = service.client.post("/v1/gc", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_dry_run_tells_what_goes_and_a_real_one_takes_that_alone(service, retried, make_old):
    store, first = service.parts.store, layout.attempt(retried["id"], 1)
    orphans = ("datasets/" + "f" * 64 + "/archive.zip", "adaptations/ad-x/attempts/1/a", "uploads/ds-x/archive.zip")
    for key in orphans:  # a service that was killed between bytes and record
        store.put_bytes(key, b"12345")
    assert gc(service)["num_items"] == 0, "new bytes may be about to be recorded"
    make_old(store)
    store.put_bytes("priors/new/card.json", b"{}")
    store.put_bytes("elsewhere/no/idea", b"no room of ours")
    before = service.keys()
    planned = gc(service)
    assert {item["what"]: item["num_bytes"] for item in planned["items"]} == {
        first: 1000,
        **{key.rpartition("/")[0] if "attempts" not in key else "adaptations/ad-x": 5 for key in orphans},
    }
    assert (planned["applied"], planned["num_items"], planned["num_bytes"]) == (False, 4, 1015)
    assert service.keys() == before
    done = gc(service, apply=True)
    assert (done["applied"], done["items"]) == (True, planned["items"])
    assert before - service.keys() == {f"{first}/weights.safetensors", *orphans}
    assert gc(service, apply=True)["num_items"] == 0
    assert len(service.client.get(f"/v1/adaptations/{retried['id']}/artifacts").json()) > 0
    families = text_string_to_metric_families(service.client.get("/metrics").text)
    samples = {(one.name, one.labels.get("kind")): one.value for family in families for one in family.samples}
    assert samples["archprior_gc_removed_total", "orphan"] == 2
    assert samples["archprior_gc_removed_bytes_total", "attempt"] == 1000


def test_while_one_is_under_way_another_is_refused(service, monkeypatch):
    monkeypatch.setattr("service.housekeeping.tenure.PATIENCE_S", 0.0)
    with holding(service.parts.housekeeper.new_lease()):
        response = service.client.post("/v1/gc", json={"apply": True})
    assert (response.status_code, response.json()["code"]) == (409, "conflict")
    assert gc(service)["applied"] is False


def test_it_takes_an_operator_and_known_fields(service):
    assert service.client.post("/v1/gc", json={"aply": True}).status_code == 422
    assert service.client.post("/v1/gc").json()["applied"] is False
    keys = service.parts.keys
    for role, status in (("user", 403), ("operator", 200)):
        _, token = keys.create(owner="ann", role=role)
        headers = {"Authorization": f"Bearer {token}"}
        assert service.client.post("/v1/gc", json={}, headers=headers).status_code == status


def test_deletion_waits_for_a_backup_and_is_done_then(service, small_zip, await_keys):
    dataset = service.add_dataset(small_zip)
    before = service.keys()
    path = f"/v1/datasets/{dataset['id']}"
    with holding(service.parts.housekeeper.new_lease()):
        assert service.client.delete(path).status_code == 204
        assert (service.client.get(path).status_code, service.client.delete(path).status_code) == (404, 404)
        service.parts.housekeeping.wake()
        assert service.keys() == before
    service.parts.housekeeping.wake()
    await_keys(service, "datasets/", ())


def test_a_dataset_in_use_is_named_with_its_users(service, small_zip, await_keys):
    dataset = service.add_dataset(small_zip)
    adaptation = service.adapt(dataset_id=dataset["id"], prior="none")
    refused = service.client.delete(f"/v1/datasets/{dataset['id']}")
    assert refused.status_code == 409
    assert adaptation["id"] in refused.json()["title"]
    service.job(adaptation["id"]).succeed()
    service.await_state(adaptation["id"], "SUCCEEDED")
    assert service.client.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    await_keys(service, "datasets/", ())
    report = service.client.get(f"/v1/adaptations/{adaptation['id']}/artifacts/report.md")
    assert (report.status_code, report.text) == (200, "# Report\n")


def test_rounds_come_by_themselves_where_that_is_set_up(new_service, tmp_path, await_keys, make_old):
    with new_service(tmp_path / "data", gc_interval_s=0.05) as service:
        service.parts.store.put_bytes("adaptations/ad-x/attempts/1/a", b"12345")
        make_old(service.parts.store)
        await_keys(service, "adaptations/", ())


def test_the_command_shows_and_removes(service, make_old):
    service.parts.store.put_bytes("adaptations/ad-x/attempts/1/a", b"12345")
    make_old(service.parts.store)

    def run(*arguments):
        command = ["gc", "--server", str(service.client.base_url), *arguments]
        return CliRunner(env={"NO_COLOR": "1"}).invoke(app, command)

    shown = run()
    assert (shown.exit_code, "adaptations/ad-x" in shown.stdout) == (0, True)
    assert "1 things, 5 bytes, could be removed." in shown.stdout
    assert service.keys() == {"adaptations/ad-x/attempts/1/a"}
    assert json.loads(run("--apply", "--json").stdout)["num_bytes"] == 5
    assert service.keys() == set()
    assert "0 things, 0 bytes, could be removed." in run().stdout
