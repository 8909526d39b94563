"""Executes runs as Ray tasks, each in a process of its own with as many threads as it is told."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
from ray.exceptions import RayError, RayTaskError

from search_spaces.errors import ArchPriorError
from workers.bench.execute import execute
from workers.bench.folder import BenchFolder
from workers.bench.records import Order, Outcome
from workers.bench.runs import Run
from workers.contracts.adaptations import Failure
from workers.tasks.node_cache import FOLDER_VARIABLE
from workers.training.threads import WAITING

OBJECT_STORE_BYTES = 100 * 2**20
"""Orders and outcomes are small."""


class RayExecutor:
    """Starts tasks on the Ray that this process has joined.

    Args:
        folder: Of the benchmark; every node of the Ray must see it.
        threads: CPU threads of each run, and CPUs that it takes of Ray.
        work: What a task does with the address of the store and an order.
    """

    def __init__(self, folder: BenchFolder, *, threads: int, work: Callable[[str, Order], Outcome] = execute) -> None:
        # A process that has run one before is warm, and holds what that one left: each gets a new one.
        self._execute = ray.remote(
            num_cpus=threads,
            max_calls=1,
            max_retries=0,
            runtime_env={
                "env_vars": {
                    "OMP_NUM_THREADS": str(threads),
                    **WAITING,
                    FOLDER_VARIABLE: str(folder.cache),
                }
            },
        )(work)
        self._store_url = folder.store_url
        self._runs: dict[ray.ObjectRef[Outcome], Run] = {}

    def start(self, order: Order) -> None:
        """Begin a run."""
        call = self._execute.options(name=order.run.key).remote(self._store_url, order)
        self._runs[call] = order.run

    def next_ended(self) -> tuple[Run, Outcome | Failure]:
        """Wait until a run has ended, and return how; one whose process was lost has failed."""
        (call,), _ = ray.wait(list(self._runs), num_returns=1)
        run = self._runs.pop(call)
        try:
            outcome: Outcome = ray.get(call)
        except RayError as error:
            return run, failure_of(error)
        return run, outcome


def failure_of(error: RayError) -> Failure:
    """Return why a task has failed, as what is kept of it."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, ArchPriorError):
        return Failure(**cause.to_dict())
    if isinstance(error, RayTaskError):
        return Failure(code="error", what=f"{type(cause).__name__}: {cause}", todo="Its traceback is in Ray's logs.")
    return Failure(code="process_lost", what="the process of the run was lost", got=str(error))


@contextmanager
def joined_ray(address: str | None, *, num_cpus: int) -> Iterator[None]:
    """Join the Ray at an address; without one, run one of this process's own, which ends with it.

    Args:
        address: Of a cluster, such as `auto`.
        num_cpus: That a Ray of our own offers; they are only counted.
    """
    is_own = address is None
    ray.init(
        address="local" if is_own else address,
        num_cpus=num_cpus if is_own else None,
        object_store_memory=OBJECT_STORE_BYTES if is_own else None,
        include_dashboard=False if is_own else None,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()
