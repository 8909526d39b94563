"""Entry point of a meta-run's Ray job: `python -m workers.meta.job --store URL --attempt PREFIX`.

Reads `PREFIX/request.json`, runs the attempt with a parameter actor and gradient workers, and leaves a manifest or a
`failure.json`. It exits with 1 where neither could be written: the service then starts a new attempt, which goes on
from the last checkpoint.
"""

import argparse
import logging
import sys
from dataclasses import dataclass
from functools import partial
from typing import Final

import ray

from search_spaces.errors import ArchPriorError
from workers.contracts.adaptations import Failure
from workers.contracts.errors import CrewTimeoutError, NewerFormatError, StoreError
from workers.contracts.meta_runs import MetaAttemptRequest
from workers.meta.attempt import Attempt, stored_prior
from workers.meta.checkpoints import Checkpoints
from workers.meta.elastic import Share
from workers.meta.flat import pack
from workers.meta.learning.data import MetaData, fetch_meta_data
from workers.meta.mailbox import Mailbox
from workers.meta.metrics import RayMetrics
from workers.meta.ray_crew import RayCrew, Timeouts
from workers.meta.watch import LogLines, Watch
from workers.store import layout
from workers.store.open import open_store
from workers.store.patient import open_patiently
from workers.store.protocol import Store
from workers.tasks.node_cache import open_node_cache

log = logging.getLogger("archprior.meta")

STORE_PATIENCE_S: Final = 90.0


@dataclass(frozen=True, kw_only=True)
class StoredData:
    """Where a run's images come from; read on the node that calls.

    Attributes:
        store_url: Of the store with the archives.
        request: Of the attempt, which names the datasets.
    """

    store_url: str
    request: MetaAttemptRequest

    def __call__(self) -> MetaData:
        """Return the images, from this node's cache."""
        resolution = max(self.request.request.config.resolutions)
        store = _patient(self.store_url)
        return fetch_meta_data(store, self.request.datasets, resolution, open_node_cache())


def open_checkpoints(store_url: str, meta_run_id: str) -> Checkpoints:
    """Return the checkpoints of a run, whose store may be away for a while."""
    return Checkpoints(_patient(store_url), layout.checkpoints(meta_run_id))


def main(arguments: list[str] | None = None) -> int:
    """Run one attempt as a Ray job; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, help="URL of the object store")
    parser.add_argument("--attempt", required=True, help="key prefix of the attempt")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    store = _patient(options.store)
    request_key = f"{options.attempt}/request.json"
    try:
        request = MetaAttemptRequest.from_stored(store.get_bytes(request_key), request_key)
    except NewerFormatError as error:
        _leave_failure(store, options.attempt, error)
        return 0
    ray.init(address="auto", log_to_driver=True)
    mailbox = Mailbox(open_store(options.store, prompt=True), options.attempt)
    try:
        outlets = (mailbox, RayMetrics(request.meta_run_id), LogLines())
        asked = request.request
        budget_s = None if asked.budget_s is None else max(0.0, asked.budget_s - request.spent_s)
        trials = asked.config.trials if asked.kind == "learn" else None
        num_trials = 0 if trials is None else trials.num_tasks * trials.num_archs
        watch = Watch(outlets, num_steps=asked.config.num_steps, num_trials=num_trials, budget_s=budget_s)
        _run(store, options.store, options.attempt, request, watch, mailbox)
    except (StoreError, CrewTimeoutError) as error:
        log.error("attempt %s ends, its last checkpoint is whole: %s", options.attempt, error)
        return 1  # what is away may be back for the next attempt
    except ArchPriorError as error:
        mailbox.flush()  # once there is a failure, nobody looks any more
        _leave_failure(store, options.attempt, error)
    finally:
        mailbox.close()
    return 0


def _run(
    store: Store, store_url: str, attempt_key: str, request: MetaAttemptRequest, watch: Watch, mailbox: Mailbox
) -> None:
    asked = request.request
    use_gpu = asked.use_gpu if asked.use_gpu is not None else ray.cluster_resources().get("GPU", 0.0) >= 1
    share = Share(cpus=asked.cpus_per_worker, gpus=int(use_gpu))
    parent = None if asked.parent is None else pack(stored_prior(store, asked.parent).to_arrays())
    crew = RayCrew(
        asked.config,
        StoredData(store_url=store_url, request=request),
        partial(open_checkpoints, store_url, request.meta_run_id),
        share=share,
        parent=parent,
        label=f"{request.meta_run_id}-a{request.attempt}",
        timeouts=Timeouts(save_s=STORE_PATIENCE_S + 210.0),
    )
    attempt = Attempt(
        store=store,
        key=attempt_key,
        request=request,
        crew=crew,
        watch=watch,
        control=mailbox.control,
        fetch=crew.fetch,
        flush=mailbox.flush,
        share=share,
    )
    try:
        attempt.run()
    finally:
        crew.close()


def _leave_failure(store: Store, attempt_key: str, error: ArchPriorError) -> None:
    log.warning("attempt %s ends: %s", attempt_key, error)
    failure = Failure(**error.to_dict()).model_dump_json().encode()
    store.put_bytes(f"{attempt_key}/failure.json", failure, media_type="application/json")


def _patient(store_url: str) -> Store:
    return open_patiently(store_url, patience_s=STORE_PATIENCE_S)


if __name__ == "__main__":
    sys.exit(main())
