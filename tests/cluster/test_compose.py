"""A cluster of containers does what it is for, and goes on whatever is taken from it. Its tests follow one another."""

from pathlib import Path
from zipfile import ZipFile

import httpx
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.machine import IMAGES
from service.schemas import FINAL_STATES, SETTLED_META_STATES
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.artifacts import MEDIA_TYPES
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import DatasetChoice, MetaRunRequest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CONFIG = MetaConfig(
    num_steps=100_000, warmup_steps=100_000, joint_steps=100_000, num_slots=4, resolutions=(16,),
    resolution_weights=(1.0,), min_ways=2, max_ways=2, joint_batch=64, num_support=32, num_query=32,
    evaluate_every=1_000, checkpoint_every=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def digits_zip(tmp_path_factory) -> Path:
    digits = load_digits()
    path = tmp_path_factory.mktemp("data") / "digits.zip"
    with ZipFile(path, "w") as archive:
        for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            if label < 6:
                with archive.open(f"{label}/{number}.png", "w") as file:
                    Image.fromarray((pixels * 15.9).astype(np.uint8)).save(file, "PNG")
    return path


@pytest.fixture(scope="module")
def dataset_id(cluster, digits_zip) -> str:
    return cluster.client.create_dataset(digits_zip, name="digits", meta_use=True).id


def adapted(cluster, dataset_id: str):
    posted = cluster.client.create_adaptation(AdaptationRequest(dataset_id=dataset_id, budget_s=15))
    return ended(cluster, posted.id)


def ended(cluster, adaptation_id: str):
    view = cluster.until(lambda: cluster.client.adaptation(adaptation_id), lambda view: view.state in FINAL_STATES)
    assert view.state == "SUCCEEDED", view
    return view


def learning(cluster, meta_run_id: str, *, step: int, num_nodes: int = 2):
    """Return the run once it has come so far, with workers on so many nodes."""

    def holds(view) -> bool:
        assert view.state not in SETTLED_META_STATES, view
        if view.progress is None or view.progress.step < step:
            return False
        return len({one.node for one in view.progress.workers if one.state in {"idle", "busy"}}) >= num_nodes

    return cluster.until(lambda: cluster.client.meta_run(meta_run_id), holds)


@pytest.fixture(scope="module")
def meta_run(cluster, dataset_id):
    choice = DatasetChoice(dataset_id=dataset_id, meta_validation=("4", "5"))
    request = MetaRunRequest(datasets=(choice,), config=CONFIG, num_tasks=3, max_workers=2, name="two containers")
    return cluster.client.create_meta_run(request)


def test_only_the_service_and_the_dashboard_are_published_and_the_dashboard_wants_its_token(cluster):
    published = cluster.docker("ps", "--filter", f"label=com.docker.compose.project={cluster.project}",
                               "--format", "{{.Ports}}")  # fmt: skip
    bound = {part.split("->")[0].strip() for line in published.splitlines() for part in line.split(",") if "->" in part}
    assert bound == {f"127.0.0.1:{cluster.port}", f"127.0.0.1:{cluster.dashboard_port}"}
    assert httpx.get(f"http://127.0.0.1:{cluster.dashboard_port}/api/jobs/").status_code == 401


def test_a_dataset_posted_to_the_published_port_becomes_a_network_that_is_downloaded_there(
    cluster, dataset_id, tmp_path
):
    with cluster.timed("first_adaptation_s"):
        done = adapted(cluster, dataset_id)
    assert {artifact.name for artifact in done.artifacts} >= set(MEDIA_TYPES)
    for artifact in done.artifacts:
        assert cluster.client.download(done.id, artifact, tmp_path).stat().st_size == artifact.num_bytes
    assert done.links.dashboard.startswith(f"http://127.0.0.1:{cluster.dashboard_port}/#/jobs/")


def test_a_meta_run_learns_on_both_workers(cluster, meta_run):
    with cluster.timed("meta_run_on_two_nodes_s"):
        learning(cluster, meta_run.id, step=3)
    actors = cluster.ask_ray("/api/v0/actors?limit=1000&detail=true")["data"]["result"]["result"]
    at_work = [actor for actor in actors if actor["class_name"] == "GradientWorker" and actor["state"] == "ALIVE"]
    assert {actor["node_id"] for actor in at_work} == set(cluster.nodes())


def test_the_dashboard_shows_a_person_the_runs_actors_on_both_workers(cluster, meta_run):
    learning(cluster, meta_run.id, step=3)
    with cluster.browser("/#/actors") as page:
        for name in ("parameters-1", "worker-1", "worker-2"):
            page.get_by_text(f"{meta_run.id}-a1 {name}").wait_for()
        page.screenshot(path=IMAGES / "dashboard.png")


def test_a_worker_container_that_is_killed_comes_back_and_the_run_goes_on(cluster, meta_run):
    before = learning(cluster, meta_run.id, step=3)
    cluster.docker("kill", "--signal", "KILL", cluster.containers("worker")[0])
    with cluster.timed("worker_killed_s"):
        cluster.until(lambda: cluster.client.meta_run(meta_run.id), lambda view: view.progress.counters.lost_workers)
        cluster.docker("start", *cluster.containers("worker"))
        after = learning(cluster, meta_run.id, step=before.progress.step + 5)
    assert after.attempt == 1


def test_a_head_that_is_restarted_costs_an_attempt_and_not_the_run(cluster, meta_run):
    before = learning(cluster, meta_run.id, step=12)
    cluster.compose("restart", "--timeout", "5", "ray-head")
    with cluster.timed("head_restarted_s"):
        after = cluster.until(lambda: learning(cluster, meta_run.id, step=11), lambda view: view.attempt == 2)
    assert after.progress.step >= before.progress.step - CONFIG.checkpoint_every


def test_a_service_that_is_restarted_finds_what_runs(cluster, meta_run):
    before = learning(cluster, meta_run.id, step=12)
    cluster.compose("restart", "--timeout", "20", "service")
    with cluster.timed("service_restarted_s"):
        after = learning(cluster, meta_run.id, step=before.progress.step + 1)
    assert after.attempt == before.attempt


def test_all_is_found_again_after_everything_was_taken_down(cluster, dataset_id, meta_run, tmp_path):
    before = learning(cluster, meta_run.id, step=12)
    (finished,) = cluster.client.adaptations().items
    cluster.compose("down", "--timeout", "20")
    with cluster.timed("down_and_up_s"):
        cluster.up()
    again = cluster.client.adaptation(finished.id)
    assert (again.state, again.result) == (finished.state, finished.result)
    for artifact in again.artifacts:
        cluster.client.download(again.id, artifact, tmp_path)
    with cluster.timed("meta_run_after_up_s"):
        after = learning(cluster, meta_run.id, step=before.progress.step - CONFIG.checkpoint_every)
    assert after.attempt > before.attempt
    cluster.client.stop_meta_run(meta_run.id)
    stopped = cluster.until(lambda: cluster.client.meta_run(meta_run.id), lambda v: v.state in SETTLED_META_STATES)
    assert stopped.state == "STOPPED"
    cluster.client.promote_prior(stopped.result.prior_id)
    assert adapted(cluster, dataset_id).request.prior == stopped.result.prior_id
