"""Everything at a glance, by HTTP."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from service.errors import ClusterUnavailableError
from service.ray.observer import ClusterLoad
from service.records.tables import DatasetRow
from service.records.transitions import Change
from service.schemas import Problem
from workers.contracts.errors import StoreError


def overview(service):
    response = service.client.get("/v1/overview")
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def dataset(service, small_zip):
    found = service.add_dataset(small_zip)
    service.client.patch(f"/v1/datasets/{found['id']}", json={"meta_use": True})
    return found["id"]


def meta_run(service, dataset, **fields):
    response = service.client.post(
        "/v1/meta-runs", json={"datasets": [{"dataset_id": dataset}], "config": {"min_ways": 2}, **fields}
    )
    assert response.status_code == 202, response.text
    return response.json()


def test_a_new_service_shows_its_cluster_and_nothing_else(service):
    seen = overview(service)
    assert seen["cluster"] == {
        "reachable": True,
        "why": "",
        "num_nodes": 3,
        "cpus": {"total": 2.0, "used": 1.0},
        "gpus": {"total": 0.0, "used": 1.0},
        "dashboard": "http://ray.test:8265",
    }
    assert set(seen["counts"]) == {"adaptation", "meta-run"}
    assert {number for counts in seen["counts"].values() for number in counts.values()} == {0}
    assert seen["running"] == seen["waiting"] == seen["failures"] == seen["checking"] == []
    assert seen["free_bytes"] > 0


def test_what_runs_is_shown_with_how_far_it_is_and_where_to_look(service, dataset):
    view = service.adapt(dataset_id=dataset, prior="none", name="pets")
    service.await_submission()
    service.job(view["id"]).progress(fraction=0.4, eta_s=20.0)
    learning = meta_run(service, dataset, name="ours")
    service.await_submission()
    seen = overview(service)
    first, second = seen["running"]
    assert first == {
        "kind": "adaptation",
        "id": view["id"],
        "name": "pets",
        "state": "RUNNING",
        "attempt": 1,
        "phase": "searching",
        "fraction": 0.4,
        "eta_s": 20.0,
        "links": {
            "self": f"/v1/adaptations/{view['id']}",
            "dashboard": f"http://ray.test:8265/#/jobs/{view['id']}-a1",
            "log": f"/v1/adaptations/{view['id']}/log",
            "actors": f"/v1/adaptations/{view['id']}/actors",
        },
    }
    assert (second["kind"], second["id"], second["name"], second["phase"]) == (
        "meta-run",
        learning["id"],
        "ours",
        "starting",
    )
    assert (seen["counts"]["adaptation"]["RUNNING"], seen["counts"]["meta-run"]["RUNNING"]) == (1, 1)


def test_what_waits_is_counted_and_the_first_are_shown_in_their_order(service, dataset):
    service.adapt(dataset_id=dataset, prior="none")
    service.await_submission()
    later = [service.adapt(dataset_id=dataset, prior="none", name=f"later {number}")["id"] for number in range(6)]
    urgent = service.adapt(dataset_id=dataset, prior="none", priority=5)["id"]
    seen = overview(service)
    assert seen["counts"]["adaptation"]["QUEUED"] == 7
    assert [work["id"] for work in seen["waiting"]] == [urgent, *later[:4]]
    assert [work["position"] for work in seen["waiting"]] == [0, 1, 2, 3, 4]
    assert [work["name"] for work in seen["waiting"]][1] == "later 0"


def test_the_last_failures_are_shown_in_one_line_each(service, dataset):
    failed = []
    for number in range(6):
        view = service.adapt(dataset_id=dataset, prior="none", name=f"n{number}")
        service.await_submission()
        service.job(view["id"]).fail(what=f"failure\n  {number}", got="x" * 1000)
        service.await_state(view["id"], "FAILED")
        failed.append(view["id"])
    seen = overview(service)
    assert [failure["id"] for failure in seen["failures"]] == failed[:0:-1]
    newest = seen["failures"][0]
    assert (newest["kind"], newest["name"], newest["code"]) == ("adaptation", "n5", "export_mismatch")
    assert newest["message"].startswith("failure 5: got xxx")
    assert len(newest["message"]) == 300
    assert newest["links"]["self"] == f"/v1/adaptations/{failed[-1]}"
    assert seen["counts"]["adaptation"]["RUNNING"] == 0


def test_a_dataset_that_was_refused_is_a_failure_and_one_that_is_checked_is_shown(service, dataset):
    datasets = service.parts.datasets
    service.parts.check_loop.stop()
    service.parts.check_loop.join()
    begun = service.client.post("/v1/datasets", json={"num_bytes": 8, "name": "large"}).json()
    service.client.put(f"/v1/datasets/{begun['id']}/parts/1", content=b"no zip!!")
    assert service.client.post(f"/v1/datasets/{begun['id']}/complete").status_code == 202
    (checking,) = overview(service)["checking"]
    assert (checking["id"], checking["name"], checking["num_bytes"]) == (begun["id"], "large", 8)
    entry = datasets.entry(begun["id"], owner="local")
    assert datasets.rejected(
        entry, Problem(title="Not a zip", status=422, detail="Got 8 bytes", code="invalid_dataset")
    )
    seen = overview(service)
    assert seen["checking"] == []
    (failure,) = seen["failures"]
    assert (failure["kind"], failure["id"], failure["code"]) == ("dataset", begun["id"], "invalid_dataset")
    assert failure["message"] == "Not a zip: Got 8 bytes"


def test_a_dataset_that_was_refused_just_now_is_shown_however_early_it_was_begun(service):
    datasets, refused = service.parts.datasets, []
    begun = [
        service.client.post("/v1/datasets", json={"num_bytes": 8, "name": f"n{number}"}).json()["id"]
        for number in range(6)
    ]
    for at, dataset_id in enumerate((*begun[1:], begun[0])):
        entry = datasets.entry(dataset_id, owner="local")
        assert datasets.rejected(entry, Problem(title="Not complete", status=422, code="upload_expired"))
        with service.parts.database.transaction() as session:
            session.execute(update(DatasetRow).where(DatasetRow.id == dataset_id).values(changed_at=2e9 + at))
        refused.append(dataset_id)
    assert [failure["id"] for failure in overview(service)["failures"]] == refused[:0:-1]


def test_a_cluster_that_cannot_be_reached_is_told_beside_all_the_rest(service, dataset):
    view = service.adapt(dataset_id=dataset, prior="none")
    service.await_submission()
    service.jobs.down = True
    seen = overview(service)
    assert (seen["cluster"]["reachable"], seen["cluster"]["why"]) == (False, "Ray does not answer")
    assert (seen["cluster"]["num_nodes"], seen["cluster"]["cpus"]) == (None, None)
    assert [work["id"] for work in seen["running"]] == [view["id"]]


def test_use_that_ray_does_not_tell_is_left_open(service):
    service.cluster.observed.used = None
    assert overview(service)["cluster"]["cpus"] == {"total": 2.0, "used": None}


def test_a_store_that_is_away_costs_the_progress_alone(service, dataset, monkeypatch):
    view = service.adapt(dataset_id=dataset, prior="none")
    service.await_submission()

    def fail(*_: object) -> bytes:
        raise StoreError("the store does not answer")

    monkeypatch.setattr(type(service.parts.store), "get_bytes", fail)
    (work,) = overview(service)["running"]
    assert (work["id"], work["phase"], work["fraction"]) == (view["id"], "", None)


def test_a_store_that_is_away_is_asked_once_for_all_that_runs(service, dataset, monkeypatch):
    works = [service.adapt(dataset_id=dataset, prior="none")["id"], meta_run(service, dataset, name="ours")["id"]]
    for _ in works:
        service.await_submission()
    service.parts.loop.stop()
    service.parts.loop.join()  # it asks the store too
    asked = []

    def fail(_: object, key: str) -> bytes:
        asked.append(key)
        raise StoreError("the store does not answer")

    monkeypatch.setattr(type(service.parts.store), "get_bytes", fail)
    running = overview(service)["running"]
    assert [(work["id"], work["phase"]) for work in running] == [(work_id, "") for work_id in works]
    assert len(asked) == 1
    overview(service)
    assert len(asked) == 2


def test_work_that_is_being_cancelled_is_still_running(service, dataset):
    view = service.adapt(dataset_id=dataset, prior="none")
    service.await_submission()
    seen = service.parts.adaptations.get(view["id"], owner="local")
    assert service.parts.adaptations.change(seen, Change(state="CANCELLING"))
    assert [work["state"] for work in overview(service)["running"]] == ["CANCELLING"]


def test_a_ray_that_is_silent_holds_up_nobody_who_asks_for_something_else(service):
    silent, asked = threading.Event(), threading.Semaphore(0)

    def load(_: object) -> ClusterLoad:
        asked.release()
        assert silent.wait(20.0)
        raise ClusterUnavailableError("Ray does not answer")

    service.cluster.observed.load = load.__get__(service.cluster.observed)
    limiter = service.parts.overview_threads
    with ThreadPoolExecutor(60) as pool:
        # More than there are threads for everything else.
        watching = [pool.submit(overview, service) for _ in range(60)]
        try:
            assert all(asked.acquire(timeout=20.0) for _ in range(int(limiter.total_tokens)))
            assert service.client.get("/v1/adaptations").status_code == 200
        finally:
            silent.set()
        assert not any(one.result(20.0)["cluster"]["reachable"] for one in watching)
