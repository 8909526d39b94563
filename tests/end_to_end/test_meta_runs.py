"""A meta-run as its user sees it: datasets, a real distributed run, its prior promoted and used; faults on the way."""

import os
import signal

import pytest

from service.schemas import SETTLED_META_STATES, Comparison, MetaRunState, MetaRunView
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.loss_model import TrialConfig
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import DatasetChoice, MetaRunRequest
from workers.priors.registry import DEFAULTS

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

CONFIG = MetaConfig(
    num_steps=60,
    num_slots=4,
    resolutions=(16,),
    resolution_weights=(1.0,),
    min_ways=2,
    max_ways=2,
    joint_batch=64,
    num_support=32,
    num_query=32,
    evaluate_every=20,
    checkpoint_every=10,
)
TRYING = CONFIG.model_copy(
    update={"trials": TrialConfig(num_tasks=2, num_archs=3, num_steps=2, num_support=32, num_query=32)}
)
FOREVER = CONFIG.model_copy(update={"num_steps": 100_000, "warmup_steps": 100_000, "joint_steps": 100_000})


def ask(dataset_id: str, config: MetaConfig = CONFIG, **more: object) -> MetaRunRequest:
    choice = DatasetChoice(dataset_id=dataset_id, meta_validation=("2", "3"))
    return MetaRunRequest.model_validate({"datasets": (choice,), "config": config, "num_tasks": 3, **more})


def settled(served, meta_run_id: str, *states: MetaRunState) -> MetaRunView:
    view = served.until(lambda: served.client.meta_run(meta_run_id), lambda view: view.state in SETTLED_META_STATES)
    assert view.state in states, view
    return view


def learning(served, meta_run_id: str, *, num_workers: int, step: int) -> MetaRunView:
    """Return the run once it has taken some steps with so many workers up."""

    def holds(view: MetaRunView) -> bool:
        assert view.state not in SETTLED_META_STATES, view
        progress = view.progress
        if progress is None or progress.step < step:
            return False
        return sum(worker.state != "starting" for worker in progress.workers) >= num_workers

    return served.until(lambda: served.client.meta_run(meta_run_id), holds)


@pytest.fixture(scope="module")
def digits(served, digits_zip) -> str:
    return served.client.create_dataset(digits_zip, name="digits", meta_use=True).id


def test_a_running_run_can_be_found_in_the_dashboard_and_its_log_read(served, digits):
    posted = served.client.create_meta_run(ask(digits, FOREVER, max_workers=2, name="watched"))
    running = learning(served, posted.id, num_workers=2, step=2)
    job_id = running.links.job_id
    assert job_id == f"{posted.id}-a1"
    actors = served.client.meta_run_actors(posted.id)
    ours = {actor.name: actor for actor in actors.items if actor.name}
    assert set(ours) == {f"{job_id} {name}" for name in ("parameters-1", "worker-1", "worker-2")}
    by_id = {worker.actor_id: worker for worker in running.progress.workers}
    for number in (1, 2):
        worker = ours[f"{job_id} worker-{number}"]
        assert (worker.kind, worker.state, worker.pid) == ("GradientWorker", "ALIVE", by_id[worker.id].pid)
        assert worker.dashboard == f"{served.ray().dashboard_url}/#/actors/{worker.id}"
    # The page's list is filtered by what stands in its address, and actors bear Ray's id of the job.
    ray_id = actors.dashboard.removeprefix(f"{served.ray().dashboard_url}/#/jobs/").removesuffix("/actors")
    listed = served.ask_ray("/logical/actors")["data"]["actors"].values()
    assert {actor["name"] for actor in listed if actor["jobId"] == ray_id} >= set(ours)

    tasks = served.ask_ray("/api/v0/tasks?limit=10000&detail=true")["data"]["result"]["result"]
    names = {task["name"] for task in tasks if task["job_id"] == ray_id}
    assert {f"{job_id} {what}" for what in ("compute a slot", "take a gradient", "load the datasets")} <= names

    end = served.client.meta_run_log(posted.id, max_bytes=200)
    log = served.client.meta_run_log(posted.id)
    assert 0 < len(end) <= 200
    assert end in log
    # Ray itself learns every few seconds only what is in use.
    overview = served.until(served.client.overview, lambda seen: (seen.cluster.cpus.used or 0.0) > 0.0)
    assert (overview.cluster.num_nodes, overview.cluster.cpus.total) == (1, 2.0)
    assert overview.cluster.cpus.used <= 2.0
    (shown,) = overview.running
    assert (shown.id, shown.name, shown.phase) == (posted.id, "watched", "learning")
    served.client.cancel_meta_run(posted.id)
    settled(served, posted.id, "CANCELLED")
    assert log[:100] in served.client.meta_run_log(posted.id, max_bytes=1 << 20)


def test_a_run_of_two_processes_makes_a_prior_that_is_promoted_and_used(served, digits):
    posted = served.client.create_meta_run(ask(digits, TRYING, max_workers=2, name="two workers"))
    running = learning(served, posted.id, num_workers=2, step=3)
    own = {worker.pid for worker in running.progress.workers}
    assert len(own) == 2
    actors = served.ask_ray("/api/v0/actors?limit=1000")["data"]["result"]["result"]
    alive = {actor["pid"] for actor in actors if actor["class_name"] == "GradientWorker" and actor["state"] == "ALIVE"}
    assert own <= alive
    job = served.ask_ray(f"/api/jobs/{running.links.job_id}")
    assert job["metadata"].pop("service")  # whose records it is in
    assert job["metadata"] == {
        "kind": "meta-run", "id": posted.id, "attempt": "1", "owner": "local", "name": "two workers",
        "job_name": "meta-run two workers of local",
    }  # fmt: skip
    done = settled(served, posted.id, "SUCCEEDED")
    assert done.result.complete
    assert done.result.step == CONFIG.num_steps
    assert [score.prior_id for score in done.result.scores] == [done.prior_id]
    events = served.client.events(posted.id).items
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert {"worker_joined", "checkpoint", "tried", "judged", "phase"} <= {event.kind for event in events}
    assert (done.progress.num_tried, done.progress.num_trials) == (6, 6)
    assert "trials.jsonl" in {file.name for file in done.artifacts}
    assert served.client.prior(done.prior_id).card.trials.num_trials == 6

    served.client.promote_prior(done.prior_id)
    adaptation = served.client.create_adaptation(AdaptationRequest(dataset_id=digits, budget_s=10))
    assert adaptation.request.prior == done.prior_id
    assert served.wait(adaptation.id).state == "SUCCEEDED"


def test_a_comparison_judges_priors_on_the_same_tasks(served, digits):
    there = [view for view in served.client.all_priors() if view.card.search_space == "nas_bench_201"]
    bundled = DEFAULTS["nas_bench_201"]
    (default,) = (view.card.id for view in there if view.default)
    assert default != bundled, "an earlier test of this service promoted its prior"
    asked = Comparison(priors=(default, bundled), datasets=(DatasetChoice(dataset_id=digits),), num_tasks=3)
    posted = served.client.compare_priors(asked)
    done = settled(served, posted.id, "SUCCEEDED")
    assert {score.prior_id for score in done.result.scores} == {default, bundled}
    assert {len(tasks) for score in done.result.scores for tasks in score.tasks.values()} == {3}


def test_an_adaptation_finds_room_beside_a_run_that_would_take_every_cpu_and_the_run_goes_on_after_it(served, digits):
    posted = served.client.create_meta_run(ask(digits, FOREVER))
    before = learning(served, posted.id, num_workers=2, step=1)
    names = ("loss", "slots_per_s", "staleness", "data_wait", "gradient_norm", "entropy", "dropped_gradients")
    wanted = [f"ray_archprior_meta_{name}" for name in names]
    metrics = served.until(served.metrics, lambda text: all(name in text for name in wanted))
    assert f'meta_run="{posted.id}"' in metrics
    adaptation = served.client.create_adaptation(AdaptationRequest(dataset_id=digits, budget_s=10))
    assert served.wait(adaptation.id).state == "SUCCEEDED"
    learning(served, posted.id, num_workers=2, step=before.progress.step + 5)
    served.client.stop_meta_run(posted.id)
    stopped = settled(served, posted.id, "STOPPED")
    assert stopped.result.prior_id == f"{posted.prior_id}-s{stopped.result.step}"
    assert served.client.prior(stopped.result.prior_id).card.num_steps == stopped.result.step


def test_a_killed_worker_costs_a_slot_and_not_the_run(served, digits):
    posted = served.client.create_meta_run(ask(digits, FOREVER, max_workers=2))
    running = learning(served, posted.id, num_workers=2, step=3)
    os.kill(running.progress.workers[0].pid, signal.SIGKILL)
    lost = served.until(
        lambda: served.client.meta_run(posted.id), lambda view: view.progress.counters.lost_workers == 1
    )
    learning(served, posted.id, num_workers=2, step=lost.progress.step + 5)
    served.client.cancel_meta_run(posted.id)
    assert settled(served, posted.id, "CANCELLED").attempt == 1


def test_a_run_whose_service_was_killed_is_found_again_and_one_whose_ray_is_gone_goes_on_from_its_checkpoint(
    serve, digits_zip
):
    with serve() as killed:
        dataset = killed.client.create_dataset(digits_zip, name="digits", meta_use=True)
        posted = killed.client.create_meta_run(ask(dataset.id, FOREVER, max_workers=1))
        learning(killed, posted.id, num_workers=1, step=12)
        killed.end(signal.SIGKILL)
    with serve() as second:
        assert learning(second, posted.id, num_workers=1, step=13).attempt == 1
        assert second.end(signal.SIGTERM) == 0
    with serve() as third:
        # Until the new attempt begins, the records show how far the old one came.
        third.until(lambda: third.client.meta_run(posted.id), lambda view: view.attempt == 2)
        learning(third, posted.id, num_workers=1, step=14)
        (begun,) = [event for event in third.client.events(posted.id).items if event.kind == "resumed"]
        assert begun.step >= 10
        third.client.stop_meta_run(posted.id)
        settled(third, posted.id, "STOPPED")
