import pytest

from service.ray.jobs import JobStatus
from workers.contracts.errors import StoreError
from workers.priors.registry import DEFAULTS

CELL = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|"


def refused(response, status, code):
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["Content-Type"] == "application/problem+json"
    return problem


def test_from_a_posted_zip_to_a_result(service, small_zip):
    response = service.client.post(
        "/v1/adaptations",
        files={"dataset": ("digits.zip", small_zip, "application/zip")},
        data={"budget_s": "60", "prior": "none", "seed": "3"},
    )
    assert response.status_code == 202, response.text
    queued = response.json()
    assert response.headers["Location"] == queued["links"]["self"] == f"/v1/adaptations/{queued['id']}"
    assert queued["state"] in {"QUEUED", "RUNNING"}
    assert (queued["request"]["budget_s"], queued["request"]["seed"]) == (60.0, 3)
    assert service.client.get(f"/v1/datasets/{queued['request']['dataset_id']}").json()["name"] == "digits"

    assert service.await_submission() == f"{queued['id']}-a1"
    starting = service.await_state(queued["id"], "RUNNING")["progress"]
    assert (starting["phase"], starting["message"]) == ("starting", "Ray starts the job and its workers")
    job = service.job(queued["id"])
    job.progress(message="sampling architectures")
    running = service.await_state(queued["id"], "RUNNING")
    assert running["progress"]["message"] == "sampling architectures"
    assert running["best"]["query_accuracy"] == 0.8
    assert running["links"]["dashboard"] == f"http://ray.test:8265/#/jobs/{queued['id']}-a1"
    assert running["started_at"] >= running["created_at"]

    job.succeed()
    done = service.await_state(queued["id"], "SUCCEEDED")
    assert done["result"]["accuracy"] == 0.9
    assert done["result"]["architecture"]["arch"].startswith("|")
    assert {artifact["name"] for artifact in done["artifacts"]} >= {"metrics.json", "weights.safetensors"}
    assert service.client.get(f"{done['links']['self']}/artifacts").json() == done["artifacts"]


def test_a_dataset_that_is_here_is_named_by_its_id(shared_service):
    view = shared_service.adapt(dataset_id=shared_service.dataset["id"], prior="none", name="again", max_params=10**9)
    assert view["request"]["dataset_id"] == shared_service.dataset["id"]
    assert view["request"]["name"] == "again"


def test_an_absent_prior_is_resolved_before_it_is_recorded(shared_service):
    view = shared_service.adapt(dataset_id=shared_service.dataset["id"], search_space="darts")
    assert view["request"]["prior"] == DEFAULTS["darts"]


def test_what_waits_says_how_long_the_queue_is(service, small_zip):
    dataset = service.add_dataset(small_zip)
    first = service.adapt(dataset_id=dataset["id"], prior="none")
    service.await_state(first["id"], "RUNNING")
    second = service.adapt(dataset_id=dataset["id"], prior="none")
    third = service.adapt(dataset_id=dataset["id"], prior="none")
    assert second["progress"]["message"] == "next in the queue"
    assert third["progress"]["message"] == "1 ahead in the queue"
    assert third["links"]["job_id"] is None


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"search_space": "enas"}, "unknown_name", "nas_bench_201"),
        ({"prior": "no-such-prior"}, "unknown_name", "none"),
        ({"budget": 60}, "invalid_request", "budget_s"),
        ({"budget_s": 1}, "invalid_request", "budget_s"),
        ({"search": "grid"}, "invalid_request", "prior_mode"),
        ({"seed": -1}, "invalid_request", "seed"),
        ({"search": "given"}, "invalid_option", "Name an architecture"),
        ({"architecture": CELL}, "invalid_option", "leave it out"),
        ({"search": "given", "architecture": "|conv~0|+|a|+|b|"}, "invalid_architecture", "nor_conv_3x3"),
        ({"search": "given", "architecture": CELL.replace("nor_conv_3x3", "none")}, "invalid_architecture", "output"),
        (
            {"search": "given", "architecture": CELL, "search_space": "mobile"},
            "invalid_architecture",
            "Stage of a mobile",
        ),
        ({"search": "given", "architecture": "x" * 2001}, "invalid_request", "architecture"),
        ({"budget_s": "soon"}, "invalid_request", "budget_s"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_with_what_can_be(shared_service, fields, code, told):
    response = shared_service.client.post(
        "/v1/adaptations", json={"dataset_id": shared_service.dataset["id"], **fields}
    )
    assert told in str(refused(response, 422, code))


@pytest.mark.parametrize("fields", [{"search_space": "enas"}, {"prior": "no-such-prior"}, {"resolution": "4"}])
def test_nothing_is_kept_of_a_zip_that_comes_with_a_request_that_is_refused(service, small_zip, fields):
    files = {"dataset": ("digits.zip", small_zip, "application/zip")}
    response = service.client.post("/v1/adaptations", files=files, data=fields)
    assert response.status_code == 422
    assert service.keys() == set()
    assert list(service.parts.uploads.folder.iterdir()) == []
    assert service.client.get("/v1/adaptations").json()["items"] == []
    assert service.client.get("/v1/datasets").json()["items"] == []


def test_a_limit_that_no_architecture_meets_is_refused_with_the_smallest(shared_service):
    response = shared_service.client.post(
        "/v1/adaptations", json={"dataset_id": shared_service.dataset["id"], "prior": "none", "max_params": 10}
    )
    refused(response, 422, "limit_unreachable")


def test_a_prior_that_has_no_weights_to_begin_at_is_refused(shared_service):
    asked = {"dataset_id": shared_service.dataset["id"], "prior": "nas_bench_201-deep"}
    asks = (
        shared_service.client.post("/v1/adaptations", json=asked),
        shared_service.client.post("/v1/priors/nas_bench_201-deep/promote"),
    )
    for response in asks:
        assert "archprior recommend" in refused(response, 422, "invalid_prior")["todo"]


def test_a_given_architecture_is_kept_with_the_request_and_over_a_limit_refused_with_its_cost(shared_service):
    asked = {"dataset_id": shared_service.dataset["id"], "prior": "none", "search": "given", "architecture": CELL}
    view = shared_service.adapt(**asked)
    assert (view["request"]["search"], view["request"]["architecture"]) == ("given", CELL)

    # Two 3x3 convolutions of 16, 32 and 64 channels are over 90,000 weights; the smallest network has 75,000 in all.
    response = shared_service.client.post("/v1/adaptations", json={**asked, "max_params": 80_000})
    problem = refused(response, 422, "limit_unreachable")
    assert "the given architecture costs more" in problem["title"]
    assert int(problem["todo"].split()[3]) > 160_000


def test_a_dataset_is_given_in_one_way(shared_service, small_zip):
    refused(shared_service.client.post("/v1/adaptations", json={}), 422, "invalid_request")
    both = shared_service.client.post(
        "/v1/adaptations",
        files={"dataset": ("digits.zip", small_zip, "application/zip")},
        data={"dataset_id": shared_service.dataset["id"]},
    )
    refused(both, 422, "invalid_request")


def test_a_dataset_that_is_not_here_is_not_found(shared_service):
    refused(shared_service.client.post("/v1/adaptations", json={"dataset_id": "ds-none"}), 404, "not_found")


def test_lists_come_in_parts_and_by_state(service, small_zip):
    dataset = service.add_dataset(small_zip)
    service.jobs.refuses = True
    ids = [service.adapt(dataset_id=dataset["id"], prior="none")["id"] for _ in range(5)]
    service.client.post(f"/v1/adaptations/{ids[0]}/cancel")
    service.await_state(ids[0], "CANCELLED")
    found, cursor = [], None
    while True:
        query = {"limit": 2} if cursor is None else {"limit": 2, "cursor": cursor}
        page = service.client.get("/v1/adaptations", params=query).json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(found) == sorted(ids)
    cancelled = service.client.get("/v1/adaptations", params={"state": "CANCELLED"}).json()["items"]
    assert [item["id"] for item in cancelled] == [ids[0]]
    refused(service.client.get("/v1/adaptations", params={"state": "LOST"}), 422, "invalid_request")


def test_what_runs_is_cancelled_by_its_job(service, small_zip):
    view = service.adapt(dataset_id=service.add_dataset(small_zip)["id"], prior="none")
    job_id = service.await_submission()
    response = service.client.post(f"{view['links']['self']}/cancel")
    assert (response.status_code, response.json()["state"]) == (202, "CANCELLING")
    assert service.client.post(f"{view['links']['self']}/cancel").status_code == 202
    service.job(view["id"]).fail(code="cancelled", what="the adaptation was cancelled")
    service.jobs.set(job_id, JobStatus.FAILED)
    done = service.await_state(view["id"], "CANCELLED")
    assert done["error"] is None
    assert service.client.post(f"{view['links']['self']}/cancel").json() == done


def test_a_failure_is_told_in_the_jobs_words(service, small_zip):
    view = service.adapt(dataset_id=service.add_dataset(small_zip)["id"], prior="none")
    service.await_submission()
    service.job(view["id"]).fail(what="the exported model predicts something else", todo="Report it.")
    error = service.await_state(view["id"], "FAILED")["error"]
    assert error["detail"] == "the exported model predicts something else"
    assert (error["code"], error["todo"]) == ("export_mismatch", "Report it.")


def test_what_has_failed_is_not_cancelled_and_lists_do_not_say_how_far_it_came(service, small_zip):
    view = service.adapt(dataset_id=service.add_dataset(small_zip)["id"], prior="none")
    service.await_submission()
    service.job(view["id"]).progress()
    service.job(view["id"]).fail()
    assert service.await_state(view["id"], "FAILED")["progress"]["fraction"] == 0.4
    refused(service.client.post(f"{view['links']['self']}/cancel"), 409, "conflict")
    assert service.client.get("/v1/adaptations").json()["items"][0]["progress"] is None


def test_without_the_store_the_records_are_told_all_the_same(service, small_zip, monkeypatch):
    view = service.adapt(dataset_id=service.add_dataset(small_zip)["id"], prior="none")
    service.await_submission()

    def down(*_):
        raise StoreError("the store does not answer")

    monkeypatch.setattr(service.parts.store, "get_bytes", down)
    found = service.client.get(view["links"]["self"]).json()
    assert (found["state"], found["progress"]) == ("RUNNING", None)
    assert service.client.post(f"{view['links']['self']}/cancel").json()["state"] == "CANCELLING"


@pytest.mark.parametrize("body", ['{"dataset_id": "\\ud800"}', '{"name": "\\udfff"}', '{"a": ' + "[" * 5000])
def test_json_that_can_be_neither_kept_nor_answered_is_refused(shared_service, body):
    response = shared_service.client.post("/v1/adaptations", content=body, headers={"Content-Type": "application/json"})
    refused(response, 400, "invalid_body")


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "\x7f"])
def test_an_adaptation_is_not_called_by_control_characters(shared_service, name):
    response = shared_service.client.post("/v1/adaptations", json={"dataset_id": "ds-1", "name": name})
    refused(response, 422, "invalid_request")
    assert response.json()["errors"][0].startswith("name: ")


@pytest.mark.parametrize("name", ["%ED%A0%80", "%FF"])
def test_names_that_nothing_bears_are_not_found(shared_service, name):
    for path in ("adaptations", "datasets", "priors", "search-spaces"):
        refused(shared_service.client.get(f"/v1/{path}/{name}"), 404, "not_found")


@pytest.mark.parametrize("name", ["%00", "a%00b"])
def test_names_with_a_nul_are_refused(shared_service, name):
    for path in ("adaptations", "datasets", "priors", "search-spaces"):
        refused(shared_service.client.get(f"/v1/{path}/{name}"), 422, "invalid_request")


def test_an_adaptation_that_does_not_exist_is_not_found(shared_service):
    for path in ("", "/artifacts", "/artifacts/weights.safetensors"):
        refused(shared_service.client.get(f"/v1/adaptations/ad-none{path}"), 404, "not_found")
    refused(shared_service.client.post("/v1/adaptations/ad-none/cancel"), 404, "not_found")
