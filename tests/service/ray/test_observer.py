"""What is asked of Ray's dashboard, and what is made of its answers; on a server that answers as it does."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from service.errors import ClusterUnavailableError, NotFoundError
from service.ray.http import RayHttp
from service.ray.observer import LOAD_AGE_S, Actor, Amount, ClusterLoad, RayObserver

JOB = "mr-1-a2"
NODES = {"data": {"result": {"result": [
    {"state": "ALIVE", "resources_total": {"CPU": 4.0, "GPU": 1.0}},
    {"state": "ALIVE", "resources_total": {"CPU": 2.5}},
    {"state": "DEAD", "resources_total": {"CPU": 8.0}},
]}}}  # fmt: skip
USAGE = {"data": {"nodeLogicalResources": {
    "a": "1.5/4.0 CPU (1.0 used of 2.0 reserved in placement groups)\n0.0/1.0 GPU\n0B/2.1GiB memory",
    "b": "2.0/2.5 CPU\n0.0/1.0 accelerator_type:CPUX",
}}}  # fmt: skip
ACTORS = {"data": {"result": {"result": [
    {"actor_id": "aa", "class_name": "GradientWorker", "state": "ALIVE", "name": "w", "pid": 7, "node_id": "n"},
    {"actor_id": "bb", "class_name": "TrainController", "state": "PENDING_CREATION", "name": "", "pid": 0},
]}}}  # fmt: skip


class Dashboard:
    """Answers as Ray's does: a status and a body for each path; says what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        dashboard = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                dashboard.asked.append((parts.path, parse_qs(parts.query)))
                status, body = dashboard.answers.get(parts.path, (404, b"not found"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str, body: object, status: int = 200) -> None:
        self.answers[path] = (status, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    made = Dashboard()
    made.answer("/api/v0/nodes", NODES)
    made.answer("/nodes", USAGE)
    made.answer("/api/v0/actors", ACTORS)
    made.answer(f"/api/jobs/{JOB}", {"status": "RUNNING", "job_id": "02000000", "driver_node_id": "n1"})
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def observer_at(dashboard: Dashboard) -> Iterator[Callable[..., RayObserver]]:
    """Returns a function that observes that dashboard by a clock that a test sets."""
    http = RayHttp(dashboard.url, token=None)
    yield lambda clock=lambda: 0.0: RayObserver(http, clock=clock)
    http.close()


def test_what_living_nodes_have_and_what_is_in_use_is_added_up(observer_at):
    assert observer_at().load() == ClusterLoad(num_nodes=2, cpus=Amount(6.5, 3.5), gpus=Amount(1.0, 0.0))


@pytest.mark.parametrize(("status", "answer"), [(200, {"data": {}}), (200, b"no json"), (500, b"Traceback")])
def test_a_cluster_is_told_without_its_use_where_ray_does_not_say_it(dashboard, observer_at, status, answer):
    dashboard.answer("/nodes", answer, status)
    assert observer_at().load() == ClusterLoad(num_nodes=2, cpus=Amount(6.5, None), gpus=Amount(1.0, None))


def test_a_cluster_of_no_node_has_nothing(dashboard, observer_at):
    dashboard.answer("/api/v0/nodes", {"data": {"result": {"result": []}}})
    dashboard.answer("/nodes", {"data": {"nodeLogicalResources": {}}})
    assert observer_at().load().num_nodes == 0


def test_however_many_look_the_cluster_is_asked_once_in_a_while(dashboard, observer_at):
    now_s = [0.0]
    observer = observer_at(lambda: now_s[0])
    with ThreadPoolExecutor(8) as pool:
        loads = list(pool.map(lambda _: observer.load(), range(16)))
    assert len(set(loads)) == 1
    assert [path for path, _ in dashboard.asked] == ["/api/v0/nodes", "/nodes"]
    now_s[0] = LOAD_AGE_S - 0.1
    observer.load()
    assert len(dashboard.asked) == 2
    now_s[0] = LOAD_AGE_S
    observer.load()
    assert len(dashboard.asked) == 4


def test_a_cluster_that_does_not_answer_is_asked_no_more_often(dashboard, observer_at):
    dashboard.answer("/api/v0/nodes", b"Traceback", 500)
    now_s = [0.0]
    observer = observer_at(lambda: now_s[0])
    told = []
    for _ in range(3):
        with pytest.raises(ClusterUnavailableError, match="status 500") as caught:
            observer.load()
        told.append(caught.value)
    assert len(dashboard.asked) == 1
    assert len(set(map(id, told))) == 3
    dashboard.answer("/api/v0/nodes", NODES)
    now_s[0] = LOAD_AGE_S
    assert observer.load().num_nodes == 2


def test_the_actors_of_a_job_are_found_by_what_ray_calls_it(dashboard, observer_at):
    found = observer_at().actors(JOB)
    assert found.ray_id == "02000000"
    assert found.actors == (
        Actor(id="aa", name="w", kind="GradientWorker", state="ALIVE", pid=7, node_id="n"),
        Actor(id="bb", name="", kind="TrainController", state="PENDING_CREATION", pid=None, node_id=None),
    )
    path, query = dashboard.asked[-1]
    assert path == "/api/v0/actors"
    filtered = (query["filter_keys"], query["filter_predicates"], query["filter_values"])
    assert filtered == (["job_id"], ["="], ["02000000"])


@pytest.mark.parametrize(
    "told", [{"status": "PENDING", "driver_node_id": "n1"}, {"status": "FAILED", "driver_node_id": None}]
)
def test_a_job_whose_process_has_not_reached_ray_has_no_actors_and_no_log(dashboard, observer_at, told):
    dashboard.answer(f"/api/jobs/{JOB}", told)
    found = observer_at().actors(JOB)
    assert (found.ray_id, found.actors) == (None, ())
    assert observer_at().log(JOB, num_bytes=10) == b""
    assert {path for path, _ in dashboard.asked} == {f"/api/jobs/{JOB}"}


def test_of_a_long_log_the_end_is_kept(dashboard, observer_at):
    lines = b"".join(b"line %d\n" % number for number in range(50_000))
    dashboard.answer("/api/v0/logs/file", lines)
    assert observer_at().log(JOB, num_bytes=1000) == lines[-1000:]
    assert observer_at().log(JOB, num_bytes=len(lines) + 1) == lines
    query = dashboard.asked[-1][1]
    assert (query["submission_id"], query["node_id"]) == ([JOB], ["n1"])


@pytest.mark.parametrize("ask", [lambda seen: seen.actors("ad-9-a1"), lambda seen: seen.log("ad-9-a1", num_bytes=1)])
def test_a_job_that_ray_has_forgotten_is_not_found(observer_at, ask):
    with pytest.raises(NotFoundError, match="does not know this job"):
        ask(observer_at())


@pytest.mark.parametrize("path", ["/api/v0/actors", "/api/v0/logs/file", f"/api/jobs/{JOB}"])
@pytest.mark.parametrize(("status", "answer"), [(500, b"Traceback"), (401, b"no")])
def test_an_answer_that_is_none_is_a_failure_of_the_cluster(dashboard, observer_at, path, status, answer):
    dashboard.answer("/api/v0/logs/file", b"fine")
    dashboard.answer(path, answer, status)
    observer = observer_at()
    with pytest.raises(ClusterUnavailableError):
        observer.actors(JOB), observer.log(JOB, num_bytes=10)


@pytest.mark.parametrize("answer", [b"no json", {"data": None}, {"data": {"result": {"result": [{"actor_id": 1}]}}}])
def test_a_list_of_actors_that_cannot_be_read_is_a_failure_of_the_cluster(dashboard, observer_at, answer):
    dashboard.answer("/api/v0/actors", answer)
    with pytest.raises(ClusterUnavailableError, match="actors"):
        observer_at().actors(JOB)
