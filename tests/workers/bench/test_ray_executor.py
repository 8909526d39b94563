"""On Ray each run has a process and its threads; what fails, and what is lost, is told of that run alone."""

import os

import pytest

from tests.workers.bench.made_up import outcome_of
from workers.bench.folder import BenchFolder
from workers.bench.ray_executor import RayExecutor, joined_ray
from workers.bench.records import Order, Outcome
from workers.bench.runs import Run
from workers.contracts.adaptations import AdaptationRequest, Failure
from workers.contracts.errors import InvalidPriorError

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(300)]


def order_of(arm: str, number: int) -> Order:
    run = Run(dataset="colors", arm=arm, seed=number, budget_s=10)
    return Order(run=run, request=AdaptationRequest(), dataset_sha256="0", prior_sha256=None, threads=1)


def test_runs_are_apart_from_each_other(folder: BenchFolder) -> None:
    # Ray reads its environment once a process, so a token is the command's to ask for: see `service.cli.bench`.
    template = outcome_of()

    def work(store_url: str, order: Order) -> Outcome:
        match order.run.arm:
            case "refused":
                raise InvalidPriorError("the prior is not whole", got="half", todo="Make it again.")
            case "buggy":
                raise ZeroDivisionError("by zero")
            case "killed":
                os.kill(os.getpid(), 9)
        told = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "ARCHPRIOR_CACHE_DIR")}
        return template.model_copy(update={"code": str(os.getpid()), "budget_note": store_url, "verdict": str(told)})

    arms = ("good", "refused", "good", "buggy", "killed", "good")
    with joined_ray(None, num_cpus=1):
        executor = RayExecutor(folder, threads=1, work=work)
        for number, arm in enumerate(arms):
            executor.start(order_of(arm, number))
        ended = dict(executor.next_ended() for _ in arms)

    by_number = {run.seed: how for run, how in ended.items()}
    good = [how for how in by_number.values() if isinstance(how, Outcome)]
    assert len({outcome.code for outcome in good} | {str(os.getpid())}) == 4
    for outcome in good:
        assert outcome.budget_note == folder.store_url
        assert outcome.verdict == str(
            {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "1000", "ARCHPRIOR_CACHE_DIR": str(folder.cache)}
        )
    refused, buggy, killed = (by_number[number] for number in (1, 3, 4))
    assert refused == Failure(code="invalid_prior", what="the prior is not whole", got="half", todo="Make it again.")
    assert isinstance(buggy, Failure)
    assert (buggy.code, buggy.what) == ("error", "ZeroDivisionError: by zero")
    assert isinstance(killed, Failure)
    assert killed.code == "process_lost"
