import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from service.errors import ClusterUnavailableError
from service.ray.jobs import CAPACITY_AGE_S, Capacity, JobReport, JobStatus, RayJobs

DETAILS = {"type": "SUBMISSION", "status": "FAILED", "entrypoint": "true", "message": "exit code 1", "more": [1]}
NODES = {"data": {"result": {"result": [
    {"state": "ALIVE", "resources_total": {"CPU": 4.0, "memory": 1.0}},
    {"state": "ALIVE", "resources_total": {"GPU": 1.0}},
    {"state": "DEAD", "resources_total": {"CPU": 8.0}},
]}}}  # fmt: skip


class Dashboard(BaseHTTPRequestHandler):
    """Answers as Ray's dashboard does."""

    def do_GET(self):
        self._answer()

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        self.server.bodies.append(json.loads(self.rfile.read(length) or "null"))
        self._answer()

    def _answer(self):
        status, body = self.server.answers.get(f"{self.command} {self.path.partition('?')[0]}", (404, "not found"))
        if self.headers.get("Authorization") != "Bearer right":
            status, body = 401, "Unauthorized"
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def dashboard():
    with HTTPServer(("127.0.0.1", 0), Dashboard) as server:
        server.answers, server.bodies = {}, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ray_jobs(dashboard):
    jobs = RayJobs(dashboard.url, token="right")
    yield jobs
    jobs.close()


def test_a_submission_takes_no_cpu_from_those_that_compute(dashboard, ray_jobs):
    dashboard.answers["POST /api/jobs/"] = (200, {"submission_id": "ad-1-a1"})
    ray_jobs.submit("ad-1-a1", "python -m workers.adapt.job", {"id": "ad-1"})
    assert dashboard.bodies == [
        {
            "submission_id": "ad-1-a1",
            "entrypoint": "python -m workers.adapt.job",
            "metadata": {"id": "ad-1"},
            "entrypoint_num_cpus": 0,
        }
    ]


def test_a_jobs_state_is_read_and_the_rest_ignored(dashboard, ray_jobs):
    dashboard.answers["GET /api/jobs/ad-1-a1"] = (200, DETAILS)
    assert ray_jobs.report("ad-1-a1") == JobReport(status=JobStatus.FAILED, message="exit code 1")


def test_the_jobs_that_live_are_listed_and_drivers_that_nobody_submitted_are_not(dashboard, ray_jobs):
    listed = [
        {**DETAILS, "submission_id": "ad-1-a1", "metadata": {"id": "ad-1"}},
        {**DETAILS, "submission_id": "ad-2-a1", "metadata": {"id": "ad-2"}, "status": "RUNNING"},
        {**DETAILS, "submission_id": "theirs", "metadata": None, "status": "PENDING"},
        {"type": "DRIVER", "job_id": "02000000", "submission_id": None, "status": "RUNNING", "entrypoint": ""},
    ]
    dashboard.answers["GET /api/jobs/"] = (200, listed)
    assert [(job.submission_id, job.metadata) for job in ray_jobs.living()] == [
        ("ad-2-a1", {"id": "ad-2"}),
        ("theirs", {}),
    ]


@pytest.mark.parametrize("answer", [(500, "Traceback"), (200, "no json"), (200, [{"status": "NEW"}])])
def test_a_list_that_cannot_be_read_is_a_failure_of_the_cluster(dashboard, ray_jobs, answer):
    dashboard.answers["GET /api/jobs/"] = answer
    with pytest.raises(ClusterUnavailableError):
        ray_jobs.living()


def test_a_list_beyond_every_bound_is_not_read_to_its_end(dashboard, ray_jobs, monkeypatch):
    monkeypatch.setattr("service.ray.http.MAX_ANSWER_BYTES", 1000)
    dashboard.answers["GET /api/jobs/"] = (200, [DETAILS] * 1000)
    with pytest.raises(ClusterUnavailableError, match="too large"):
        ray_jobs.living()


def test_a_job_that_the_cluster_does_not_know_is_missing(ray_jobs):
    assert ray_jobs.report("ad-1-a1").status == JobStatus.MISSING
    ray_jobs.stop("ad-1-a1")


@pytest.mark.parametrize("answer", [(500, "Traceback"), (200, "no json"), (200, {"status": "NEW"})])
def test_an_answer_that_says_nothing_of_the_job_is_a_failure_of_the_cluster(dashboard, ray_jobs, answer):
    dashboard.answers["GET /api/jobs/ad-1-a1"] = answer
    with pytest.raises(ClusterUnavailableError):
        ray_jobs.report("ad-1-a1")


def test_a_cluster_that_does_not_answer_is_unavailable():
    jobs = RayJobs("http://127.0.0.1:9", token=None)
    with pytest.raises(ClusterUnavailableError, match="does not answer"):
        jobs.check()
    jobs.close()


def test_a_wrong_token_is_told_without_showing_it(dashboard):
    jobs = RayJobs(dashboard.url, token="wrong-token")
    with pytest.raises(ClusterUnavailableError, match="RAY_AUTH_TOKEN") as caught:
        jobs.check()
    assert "wrong-token" not in str(caught.value)
    jobs.close()


def test_a_closed_client_means_an_unavailable_cluster(ray_jobs):
    ray_jobs.close()
    with pytest.raises(ClusterUnavailableError, match="closed"):
        ray_jobs.check()


@pytest.mark.parametrize(
    "answer",
    [
        "no json",
        {"data": None},
        {"data": {"result": {"result": [{"state": "ALIVE", "resources_total": {"CPU": "x"}}]}}},
    ],
)
def test_an_answer_that_says_nothing_of_the_nodes_is_a_failure_of_the_cluster(dashboard, ray_jobs, answer):
    dashboard.answers["GET /api/v0/nodes"] = (200, answer)
    with pytest.raises(ClusterUnavailableError):
        ray_jobs.capacity()


def test_the_cpus_and_gpus_of_living_nodes_are_counted(dashboard, ray_jobs):
    dashboard.answers["GET /api/v0/nodes"] = (200, NODES)
    assert ray_jobs.capacity() == Capacity(4, 1)


def test_what_the_cluster_has_is_asked_again_only_after_a_while(dashboard):
    dashboard.answers["GET /api/v0/nodes"] = (200, NODES)
    clock = iter([0.0, CAPACITY_AGE_S - 0.1, CAPACITY_AGE_S])
    jobs = RayJobs(dashboard.url, token="right", clock=lambda: next(clock))
    assert jobs.capacity() == Capacity(4, 1)
    dashboard.answers["GET /api/v0/nodes"] = (200, {"data": {"result": {"result": []}}})
    assert jobs.capacity() == Capacity(4, 1)
    assert jobs.capacity() == Capacity(0, 0)
    jobs.close()
