import hashlib

from service.ray.jobs import JobStatus
from service.schemas import DatasetChange
from workers.contracts.datasets import DatasetReport
from workers.contracts.errors import StoreError

OWNER = {"owner": "local"}
CLASSES = ("cat", "dog", "emu", "fox", "gnu")
SMALL = {"min_ways": 2, "max_ways": 3}
STREAM = {"Accept": "text/event-stream"}


def refused(response, status, code):
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["Content-Type"] == "application/problem+json"
    return problem


def zoo(service):
    """Record a dataset of five classes that may be learned from, and return its id."""
    report = DatasetReport(
        classes=CLASSES, num_images=(6,) * len(CLASSES), median_size=12, min_size=12, max_size=12, modes={"L": 30}
    )
    datasets = service.parts.datasets
    dataset, _ = datasets.add(name="zoo", sha256="0" * 64, num_bytes=10, report=report, **OWNER)
    return datasets.change(dataset.id, DatasetChange(meta_use=True), **OWNER).id


def learn(service, **fields):
    """Post a meta-run over the zoo, and return its view."""
    body = {"datasets": [{"dataset_id": zoo(service)}], "config": SMALL, **fields}
    response = service.client.post("/v1/meta-runs", json=body)
    assert response.status_code == 202, response.text
    assert response.headers["Location"] == response.json()["links"]["self"]
    return response.json()


def test_from_a_post_to_a_prior(service, meta_job_in, await_meta_state):
    queued = learn(service, name="all of us", prior_id="ours-v1")
    assert queued["links"]["self"] == f"/v1/meta-runs/{queued['id']}"
    assert (queued["prior_id"], queued["request"]["name"]) == ("ours-v1", "all of us")
    assert queued["state"] in {"QUEUED", "RUNNING"}
    assert service.await_submission() == f"{queued['id']}-a1"
    starting = await_meta_state(service, queued["id"], "RUNNING")
    assert starting["progress"]["message"] == "Ray starts the job and its workers"
    assert starting["links"]["dashboard"] == f"http://ray.test:8265/#/jobs/{queued['id']}-a1"
    assert starting["links"]["prior"] is None
    job = meta_job_in(service, queued["id"])
    job.progress(step=40, message="learning")
    assert service.client.get(queued["links"]["self"]).json()["progress"]["step"] == 40

    job.finish("ours-v1")
    done = await_meta_state(service, queued["id"], "SUCCEEDED")
    assert (done["result"]["prior_id"], done["result"]["complete"]) == ("ours-v1", True)
    assert done["finished_at"] >= done["started_at"]
    assert service.client.get(done["links"]["prior"]).json()["card"]["id"] == "ours-v1"
    assert service.client.get(done["links"]["artifacts"]).json() == done["artifacts"]
    listed = service.client.get("/v1/meta-runs").json()["items"]
    assert [(item["id"], item["progress"]) for item in listed] == [(queued["id"], None)]


def test_a_run_tells_how_many_trials_are_made_and_is_stopped_among_them_for_its_weights(
    service, meta_job_in, await_meta_state
):
    trials = {"num_tasks": 2, "num_archs": 3}
    view = learn(service, prior_id="ours-v1", config={**SMALL, "num_steps": 100, "trials": trials})
    assert view["request"]["config"]["trials"]["num_archs"] == 3
    service.await_submission()
    job = meta_job_in(service, view["id"])
    job.progress(phase="trying", step=100, num_tried=4, num_trials=6, fraction=0.9)
    progress = service.client.get(view["links"]["self"]).json()["progress"]
    assert (progress["phase"], progress["num_tried"], progress["num_trials"]) == ("trying", 4, 6)
    service.client.post(f"{view['links']['self']}/stop")
    job.finish("ours-v1-s100", step=100, complete=False)
    stopped = await_meta_state(service, view["id"], "STOPPED")
    assert stopped["result"]["prior_id"] == "ours-v1-s100"
    assert service.client.post(f"{view['links']['self']}/resume").json()["attempt"] == 2


def test_files_are_downloaded_whole_or_in_part(service, meta_job_in, await_meta_state):
    view = learn(service)
    service.await_submission()
    folder = view["links"]["artifacts"]
    assert service.client.get(folder).json() == []
    meta_job_in(service, view["id"]).finish("p-v1")
    await_meta_state(service, view["id"], "SUCCEEDED")
    (report,) = service.client.get(folder).json()
    response = service.client.get(report["href"])
    assert hashlib.sha256(response.content).hexdigest() == report["sha256"]
    assert response.headers["ETag"] == f'"{report["sha256"]}"'
    part = service.client.get(report["href"], headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, response.content[2:5])
    refused(service.client.get(f"{folder}/request.json"), 404, "not_found")


def test_what_waits_says_how_long_the_queue_is(service, await_meta_state):
    await_meta_state(service, learn(service)["id"], "RUNNING")
    second, third = learn(service), learn(service)
    assert second["progress"]["message"] == "next in the queue"
    assert third["progress"]["message"] == "1 ahead in the queue"
    assert third["progress"]["num_steps"] == third["request"]["config"]["num_steps"]
    assert third["links"]["job_id"] is None


def test_a_stop_publishes_and_a_resume_goes_on(service, meta_job_in, await_meta_state):
    view = learn(service, prior_id="ours-v1")
    service.await_submission()
    path = view["links"]["self"]
    assert service.client.post(f"{path}/stop").json()["state"] == "STOPPING"
    again = service.client.post(f"{path}/stop")
    assert (again.status_code, again.json()["state"]) == (202, "STOPPING")
    refused(service.client.post(f"{path}/resume"), 409, "conflict")
    meta_job_in(service, view["id"]).finish("ours-v1-s40", step=40, complete=False)
    stopped = await_meta_state(service, view["id"], "STOPPED")
    assert (stopped["result"]["prior_id"], stopped["prior_id"]) == ("ours-v1-s40", "ours-v1")
    refused(service.client.post(f"{path}/cancel"), 409, "conflict")

    resumed = service.client.post(f"{path}/resume")
    assert (resumed.status_code, resumed.json()["attempt"], resumed.json()["result"]) == (202, 2, None)
    assert service.await_submission() == f"{view['id']}-a2"
    meta_job_in(service, view["id"], 2).finish("ours-v1")
    done = await_meta_state(service, view["id"], "SUCCEEDED")
    assert done["result"]["prior_id"] == "ours-v1"
    for ask in ("stop", "resume", "cancel"):
        assert "SUCCEEDED" in refused(service.client.post(f"{path}/{ask}"), 409, "conflict")["title"]


def test_a_dataset_that_may_no_longer_be_learned_from_is_not_learned_from_by_a_resume(
    service, meta_job_in, await_meta_state
):
    view = learn(service)
    service.await_submission()
    meta_job_in(service, view["id"]).fail()
    await_meta_state(service, view["id"], "FAILED")
    dataset = f"/v1/datasets/{view['request']['datasets'][0]['dataset_id']}"
    service.client.patch(dataset, json={"meta_use": False})
    assert dataset in refused(service.client.post(f"{view['links']['self']}/resume"), 409, "conflict")["todo"]
    service.client.patch(dataset, json={"meta_use": True})
    assert service.client.post(f"{view['links']['self']}/resume").status_code == 202


def test_what_runs_is_cancelled_by_its_job(service, meta_job_in, await_meta_state):
    view = learn(service)
    job_id = service.await_submission()
    response = service.client.post(f"{view['links']['self']}/cancel")
    assert (response.status_code, response.json()["state"]) == (202, "CANCELLING")
    meta_job_in(service, view["id"]).fail(code="cancelled", what="the meta-run was cancelled")
    service.jobs.set(job_id, JobStatus.FAILED)
    done = await_meta_state(service, view["id"], "CANCELLED")
    assert done["error"] is None
    assert service.client.post(f"{view['links']['self']}/cancel").json() == done


def test_a_failure_is_told_in_the_jobs_words(service, meta_job_in, await_meta_state):
    view = learn(service)
    service.await_submission()
    meta_job_in(service, view["id"]).fail(what="the loss is not finite", todo="Lower lr.")
    error = await_meta_state(service, view["id"], "FAILED")["error"]
    assert (error["detail"], error["code"], error["todo"]) == ("the loss is not finite", "diverged", "Lower lr.")


def test_lists_come_in_parts_and_by_state(service):
    ids = [learn(service)["id"] for _ in range(3)]
    first = service.client.get("/v1/meta-runs", params={"limit": 2}).json()
    rest = service.client.get("/v1/meta-runs", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next_cursor"] is None
    assert service.client.get("/v1/meta-runs", params={"state": "STOPPED"}).json()["items"] == []
    refused(service.client.get("/v1/meta-runs", params={"state": "LOST"}), 422, "invalid_request")
    refused(service.client.get("/v1/meta-runs", params={"cursor": "x"}), 422, "invalid_request")


def test_events_come_in_parts(service, meta_job_in):
    view = learn(service)
    service.await_submission()
    path = view["links"]["events"]
    assert service.client.get(path).json() == {"attempt": 1, "items": [], "next_after": 0}
    meta_job_in(service, view["id"]).events(1, 2, 3)
    page = service.client.get(path, params={"after": 1, "limit": 1}).json()
    assert ([event["sequence"] for event in page["items"]], page["next_after"]) == ([2], 2)
    refused(service.client.get(path, params={"after": -1}), 422, "invalid_request")


def test_events_are_followed_to_the_end_and_taken_up_again(service, meta_job_in, await_meta_state):
    view = learn(service)
    service.await_submission()
    job, path = meta_job_in(service, view["id"]), view["links"]["events"]
    job.events(1, 2)
    lines = []
    with service.client.stream("GET", path, headers=STREAM) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        for line in response.iter_lines():
            lines.append(line)
            if line == "id: 1-2":
                job.events(1, 2, 3)
                job.finish("p-v1")
                service.parts.loop.wake()
    assert [line for line in lines if line.startswith("id:")] == ["id: 1-1", "id: 1-2", "id: 1-3"]
    await_meta_state(service, view["id"], "SUCCEEDED")
    rest = service.client.get(path, headers={**STREAM, "Last-Event-ID": "1-2"})
    assert "id: 1-3" in rest.text
    assert "id: 1-2" not in rest.text
    assert service.client.get(path, headers={**STREAM, "Last-Event-ID": "1-3"}).status_code == 204
    assert "id: 1-1" in service.client.get(path, headers={**STREAM, "Last-Event-ID": "garbage"}).text


def test_without_the_store_the_records_are_told_all_the_same(service, monkeypatch):
    view = learn(service)
    service.await_submission()

    def down(*_):
        raise StoreError("the store does not answer")

    monkeypatch.setattr(service.parts.store, "get_bytes", down)
    found = service.client.get(view["links"]["self"]).json()
    assert (found["state"], found["progress"]) == ("RUNNING", None)
    refused(service.client.get(view["links"]["events"]), 503, "store_error")
    assert service.client.post(f"{view['links']['self']}/stop").json()["state"] == "STOPPING"


def test_without_the_cluster_a_meta_run_waits(service, await_meta_state):
    service.jobs.down = True
    view = learn(service)
    assert service.client.get(view["links"]["self"]).json()["state"] == "QUEUED"
    assert service.client.post(f"{view['links']['self']}/stop").json()["state"] == "STOPPED"


def test_without_the_records_meta_runs_say_so(service):
    service.parts.database.close()
    records = service.parts.settings.data_dir / "records.sqlite3"
    records.unlink()
    records.mkdir()
    refused(service.client.get("/v1/meta-runs"), 503, "records_unavailable")


def test_a_meta_run_that_does_not_exist_is_not_found(shared_service):
    for path in ("", "/artifacts", "/artifacts/report.md", "/events"):
        refused(shared_service.client.get(f"/v1/meta-runs/mr-none{path}"), 404, "not_found")
    for ask in ("stop", "resume", "cancel"):
        refused(shared_service.client.post(f"/v1/meta-runs/mr-none/{ask}"), 404, "not_found")


def test_priors_are_compared_on_the_held_out_classes(service, meta_job_in, await_meta_state):
    learned = learn(service, prior_id="ours-v1")
    service.await_submission()
    meta_job_in(service, learned["id"]).finish("ours-v1")
    await_meta_state(service, learned["id"], "SUCCEEDED")
    dataset_id = learned["request"]["datasets"][0]["dataset_id"]
    body = {"priors": ["nas_bench_201-v4", "ours-v1"], "datasets": [{"dataset_id": dataset_id}], "num_tasks": 7}
    response = service.client.post("/v1/priors/compare", json={**body, "seed": 3})
    assert response.status_code == 202, response.text
    view = response.json()
    assert response.headers["Location"] == view["links"]["self"]
    request = view["request"]
    assert (request["kind"], request["num_tasks"], request["config"]["seed"]) == ("compare", 7, 3)
    # As the first prior was learned with.
    assert (request["config"]["lr_rise_steps"], request["config"]["resolutions"]) == (200, [16, 24, 32])
    refusal = refused(service.client.post(f"{view['links']['self']}/stop"), 409, "conflict")
    assert (refusal["title"], f"{view['links']['self']}/cancel" in refusal["todo"]) == (
        "A comparison publishes nothing when stopped: cancel it",
        True,
    )
    (resolved,) = service.parts.meta_runs.get(view["id"], owner="local").datasets
    assert (resolved.meta_train, resolved.meta_validation) == ((), CLASSES)
    one = service.client.post("/v1/priors/compare", json={**body, "priors": ["ours-v1", "ours-v1"]})
    refused(one, 422, "invalid_request")
    gone = service.client.post("/v1/priors/compare", json={**body, "priors": ["ours-v1", "gone-v1"]})
    refused(gone, 404, "not_found")
