"""Many adaptations at once, with one service and with two on the same records."""

import gc
import os
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NUM = 200
NUM_SHARED = 80
GROWTH_BYTES = 40 << 20


def resident_bytes():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def post_all(clients, dataset_id, priorities):
    """Post one adaptation for each priority, many at once; return the views, in the order of the priorities."""

    def post(number):
        body = {"dataset_id": dataset_id, "prior": "none", "priority": priorities[number]}
        response = clients[number % len(clients)].post("/v1/adaptations", json=body)
        assert response.status_code == 202, response.text
        return response.json()

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(post, range(len(priorities))))


def everything(client):
    items, cursor = [], None
    while True:
        page = client.get("/v1/adaptations", params={"limit": 100, **({"cursor": cursor} if cursor else {})}).json()
        items, cursor = items + page["items"], page["next_cursor"]
        if cursor is None:
            return items


def play(services, num):
    """Let each job end well as soon as it is submitted; return the adaptations in the order of their submission."""
    order = []
    for _ in range(num):
        submitted = services[0].jobs.submissions.get(timeout=60.0)
        adaptation_id = submitted.removesuffix("-a1")
        assert adaptation_id != submitted, "none needs a second attempt"
        order.append(adaptation_id)
        services[0].job(adaptation_id).succeed()
        for service in services:
            service.parts.loop.wake()
    return order


def test_two_hundred_at_once_end_well_in_their_order_and_memory_stays_flat(new_service, tmp_path, small_zip):
    with new_service(tmp_path / "data", max_submitted_jobs=1, reconcile_interval_s=0.05) as service:
        dataset_id = service.add_dataset(small_zip)["id"]
        first = service.adapt(dataset_id=dataset_id, prior="none")["id"]
        assert service.await_submission() == f"{first}-a1"
        generator = random.Random(0)
        posted = post_all([service.client], dataset_id, [generator.choice((-10, 0, 0, 10)) for _ in range(NUM)])
        waiting = {item["id"]: item for item in everything(service.client) if item["state"] == "QUEUED"}
        assert set(waiting) == {one["id"] for one in posted}
        queue = sorted(waiting.values(), key=lambda item: item["position"])
        assert [item["position"] for item in queue] == list(range(NUM))
        assert [item["priority"] for item in queue] == sorted((one["priority"] for one in posted), reverse=True)
        before = resident_bytes()
        service.job(first).succeed()
        service.parts.loop.wake()
        assert play([service], NUM) == [item["id"] for item in queue]
        service.await_state(queue[-1]["id"], "SUCCEEDED")
        assert Counter(item["state"] for item in everything(service.client)) == {"SUCCEEDED": NUM + 1}
        assert resident_bytes() - before < GROWTH_BYTES


def test_two_services_on_one_postgresql_submit_each_job_once(
    new_service, tmp_path, postgresql, cluster, small_zip, monkeypatch
):
    common = {
        "database_url": postgresql.new_database(),
        "store_url": str(tmp_path / "objects"),
        "ray_address": "http://127.0.0.1:8265",
        "max_submitted_jobs": 4,
        "reconcile_interval_s": 0.05,
    }
    calls, submit = [], cluster.jobs.submit

    def submit_and_note(submission_id, *rest):
        calls.append(submission_id)
        submit(submission_id, *rest)

    monkeypatch.setattr(cluster.jobs, "submit", submit_and_note)
    with ExitStack() as first_one, new_service(tmp_path / "b", cluster, **common) as second:
        first = first_one.enter_context(new_service(tmp_path / "a", cluster, **common))
        dataset_id = first.add_dataset(small_zip)["id"]
        assert second.add_dataset(small_zip)["id"] == dataset_id
        posted = post_all([first.client, second.client], dataset_id, [0] * NUM_SHARED)
        done = play([first, second], NUM_SHARED // 2)
        first_one.close()  # the other goes on alone
        done += play([second], NUM_SHARED - NUM_SHARED // 2)
        assert set(done) == {one["id"] for one in posted}
        for one in posted:
            second.await_state(one["id"], "SUCCEEDED")
        assert max(Counter(calls).values()) == 1
        assert len(calls) == NUM_SHARED


def test_a_priority_beyond_its_range_is_refused(service, small_zip):
    dataset_id = service.add_dataset(small_zip)["id"]
    refused: httpx.Response = service.client.post("/v1/adaptations", json={"dataset_id": dataset_id, "priority": 11})
    assert refused.status_code == 422
    form = {"prior": "none", "priority": "-3"}
    accepted = service.client.post("/v1/adaptations", data=form, files={"dataset": ("a.zip", small_zip)})
    assert (accepted.json()["priority"], "priority" in accepted.json()["request"]) == (-3, False)
