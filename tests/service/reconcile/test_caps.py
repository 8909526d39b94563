from datetime import UTC, datetime

import pytest

from service.ray.jobs import Capacity
from service.reconcile.caps import Need, need_of, worker_caps
from service.records.model import Adaptation, MetaRun
from workers.adapt.plan import MAX_CPUS_PER_WORKER
from workers.adapt.resources import share_of_cluster
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.meta_runs import DatasetChoice, MetaRunRequest

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def adaptation(**fields):
    return Adaptation(
        id="ad-1",
        owner="local",
        attempt=1,
        state="RUNNING",
        request=AdaptationRequest(**fields),
        dataset_id="ds-1",
        dataset_sha256="0" * 64,
        spent_s=0.0,
        created_at=NOW,
    )


def meta_run(name="mr-1", **fields):
    return MetaRun(
        id=name,
        owner="local",
        attempt=1,
        state="RUNNING",
        request=MetaRunRequest(datasets=(DatasetChoice(dataset_id="ds-1"),), **fields),
        datasets=(),
        prior_id="p",
        spent_s=0.0,
        created_at=NOW,
    )


def cap(capacity, needs, **fields):
    return worker_caps(capacity, needs, [meta_run(**fields)])["mr-1"]


@pytest.mark.parametrize("cpus", [1, 2, 3, 4, 7, 8, 32])
@pytest.mark.parametrize("gpus", [0, 1, 4])
@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_what_is_set_aside_covers_what_the_job_will_take_of_one_node(cpus, gpus, num_workers):
    if num_workers > cpus:
        return  # the job refuses it
    taken_cpus, taken_gpus = share_of_cluster([{"CPU": cpus, "GPU": gpus}], num_workers)
    need = need_of(adaptation(num_workers=num_workers), Capacity(cpus, gpus))
    assert num_workers * taken_cpus <= need.cpus <= cpus
    assert num_workers * taken_gpus <= need.gpus <= gpus


def test_an_adaptation_that_trains_in_its_jobs_process_needs_cpus_too():
    assert need_of(adaptation(num_workers=0), Capacity(8, 2)) == Need(cpus=MAX_CPUS_PER_WORKER, gpus=0)


def test_without_adaptations_there_is_no_cap():
    assert worker_caps(Capacity(8, 0), [], [meta_run("mr-1"), meta_run("mr-2")]) == {"mr-1": None, "mr-2": None}


@pytest.mark.parametrize(
    ("cpus", "needed", "left"), [(2, [2], 0), (8, [4], 4), (8, [4, 4], 0), (8, [4, 4, 4], 0), (4, [1], 3)]
)
def test_adaptations_come_first_and_the_rest_is_the_meta_runs(cpus, needed, left):
    assert cap(Capacity(cpus, 0), [Need(cpus=one, gpus=0) for one in needed]) == left


def test_each_worker_takes_as_many_cpus_as_the_request_says():
    assert cap(Capacity(16, 0), [Need(cpus=5, gpus=0)], cpus_per_worker=4) == 2


@pytest.mark.parametrize(("use_gpu", "workers"), [(None, 2), (True, 2), (False, 60)])
def test_workers_with_gpus_are_as_many_as_there_are_gpus_left(use_gpu, workers):
    assert cap(Capacity(64, 4), [Need(cpus=4, gpus=2)], use_gpu=use_gpu) == workers


def test_workers_that_want_gpus_where_there_are_none_get_no_room():
    assert cap(Capacity(8, 0), [Need(cpus=4, gpus=0)], use_gpu=True) == 0


def test_no_cap_is_above_what_the_request_names():
    assert cap(Capacity(64, 0), [Need(cpus=4, gpus=0)], max_workers=3) == 3


def test_several_meta_runs_share_what_is_left():
    runs = [meta_run("mr-1"), meta_run("mr-2", cpus_per_worker=2), meta_run("mr-3", max_workers=1)]
    caps = worker_caps(Capacity(14, 0), [Need(cpus=4, gpus=0)], runs)
    assert caps == {"mr-1": 3, "mr-2": 3, "mr-3": 1}


def test_meta_runs_pause_while_an_adaptation_finds_no_place_among_scattered_cpus():
    assert cap(Capacity(64, 8), [Need(cpus=4, gpus=0, starved=True)]) == 0
