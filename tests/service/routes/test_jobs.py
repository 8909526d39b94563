"""What a job has printed and its actors, by HTTP; the cluster is a fake that holds what a test puts there."""

import pytest

from service.ray.jobs import JobStatus
from service.ray.observer import Actor, JobActors

WORKER = Actor(id="bb", name="mr-1-a1 worker-1", kind="GradientWorker", state="ALIVE", pid=7, node_id="n1")
CONTROLLER = Actor(id="aa", name="", kind="TrainController", state="DEAD", pid=None, node_id=None)


def refused(response, status, code):
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["Content-Type"] == "application/problem+json"
    return problem


@pytest.fixture
def running(service, small_zip):
    """An adaptation of which a job runs."""
    dataset = service.add_dataset(small_zip)
    view = service.adapt(dataset_id=dataset["id"], prior="none")
    service.await_submission()
    return service.await_state(view["id"], "RUNNING")


def test_a_jobs_log_is_linked_and_plain_text_that_no_browser_takes_for_a_page(service, running):
    said = "<script>alert(1)</script> \N{SNOWMAN}\n".encode()
    service.cluster.observed.logs[f"{running['id']}-a1"] = said + b"\xff\n"
    response = service.client.get(running["links"]["log"])
    assert response.status_code == 200
    assert response.content == said + "\N{REPLACEMENT CHARACTER}\n".encode()
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("max_bytes", "told"),
    [
        (1, "\n"),  # the only line that is left is cut, and better than none
        (6, "three\n"),
        (9, "three\n"),
        (10, "two\nthree\n"),
        (13, "two\nthree\n"),
        (14, "one\ntwo\nthree\n"),
    ],
)
def test_of_a_long_log_the_last_whole_lines_come(service, running, max_bytes, told):
    service.cluster.observed.logs[f"{running['id']}-a1"] = b"one\ntwo\nthree\n"
    assert service.client.get(running["links"]["log"], params={"max_bytes": max_bytes}).text == told


def test_a_line_longer_than_what_was_asked_for_is_cut(service, running):
    service.cluster.observed.logs[f"{running['id']}-a1"] = b"x" * 100
    assert service.client.get(running["links"]["log"], params={"max_bytes": 10}).text == "x" * 10


@pytest.mark.parametrize("query", [{"max_bytes": 0}, {"max_bytes": (1 << 20) + 1}, {"attempt": 0}, {"attempt": "x"}])
def test_a_log_is_asked_for_within_bounds(service, running, query):
    refused(service.client.get(running["links"]["log"], params=query), 422, "invalid_request")


def test_the_actors_of_a_job_are_listed_with_their_pages(service, running):
    service.cluster.observed.of_jobs[f"{running['id']}-a1"] = JobActors(ray_id="02000000", actors=(WORKER, CONTROLLER))
    page = service.client.get(running["links"]["actors"]).json()
    assert page["job_id"] == f"{running['id']}-a1"
    assert page["dashboard"] == "http://ray.test:8265/#/jobs/02000000/actors"
    shown = [(one["name"], one["kind"], one["state"], one["pid"], one["dashboard"]) for one in page["items"]]
    assert shown == [
        ("", "TrainController", "DEAD", None, "http://ray.test:8265/#/actors/aa"),
        ("mr-1-a1 worker-1", "GradientWorker", "ALIVE", 7, "http://ray.test:8265/#/actors/bb"),
    ]


def test_without_a_dashboard_there_are_no_pages(service, running):
    service.cluster.dashboard_url = None
    service.cluster.observed.of_jobs[f"{running['id']}-a1"] = JobActors(ray_id="02000000", actors=(WORKER,))
    page = service.client.get(running["links"]["actors"]).json()
    assert (page["dashboard"], page["items"][0]["dashboard"]) == (None, None)


def test_a_job_that_has_not_reached_ray_has_no_actors_yet(service, running):
    page = service.client.get(running["links"]["actors"]).json()
    assert (page["dashboard"], page["items"]) == (None, [])


@pytest.mark.parametrize("what", ["log", "actors"])
def test_what_waits_has_no_job_to_look_at(service, running, what):
    waiting = service.adapt(dataset_id=running["request"]["dataset_id"], prior="none")
    assert waiting["links"][what] is None
    problem = refused(service.client.get(f"{waiting['links']['self']}/{what}"), 404, "not_found")
    assert "no job" in problem["title"]


@pytest.mark.parametrize("what", ["log", "actors"])
def test_a_job_that_ray_has_forgotten_is_not_found(service, running, what):
    service.jobs.forget()
    problem = refused(service.client.get(running["links"][what], params={"attempt": 1}), 404, "not_found")
    assert "does not know this job" in problem["title"]


@pytest.mark.parametrize("what", ["log", "actors"])
def test_a_cluster_that_does_not_answer_is_told(service, running, what):
    service.jobs.down = True
    response = service.client.get(running["links"][what])
    refused(response, 503, "cluster_unavailable")
    assert response.headers["Retry-After"]


def test_the_log_of_an_attempt_that_was_lost_can_still_be_read(new_service, tmp_path, small_zip):
    with new_service(tmp_path / "data", reconcile_interval_s=0.05) as service:
        dataset = service.add_dataset(small_zip)
        view = service.adapt(dataset_id=dataset["id"], prior="none")
        lost = service.await_submission()
        service.cluster.observed.logs[lost] = b"Killed\n"
        service.jobs.set(lost, JobStatus.FAILED, "exit code 137")
        assert service.await_submission() == f"{view['id']}-a2"
        path = f"{view['links']['self']}/log"
        assert service.client.get(path).text == ""
        assert service.client.get(path, params={"attempt": 2}).text == ""
        assert service.client.get(path, params={"attempt": 1}).text == "Killed\n"
        problem = refused(service.client.get(path, params={"attempt": 3}), 404, "not_found")
        assert "1 to 2" in problem["detail"]


def test_a_meta_run_has_the_same(service, small_zip):
    dataset = service.add_dataset(small_zip)
    service.client.patch(f"/v1/datasets/{dataset['id']}", json={"meta_use": True})
    body = {"datasets": [{"dataset_id": dataset["id"]}], "config": {"min_ways": 2}}
    waiting = service.client.post("/v1/meta-runs", json=body).json()
    job_id = service.await_submission()
    service.cluster.observed.logs[job_id] = b"step 1\n"
    service.cluster.observed.of_jobs[job_id] = JobActors(ray_id="03000000", actors=(WORKER,))
    links = service.client.get(waiting["links"]["self"]).json()["links"]
    assert links["log"] == f"{links['self']}/log"
    assert service.client.get(links["log"]).text == "step 1\n"
    assert [one["name"] for one in service.client.get(links["actors"]).json()["items"]] == ["mr-1-a1 worker-1"]
