"""Entry point of an adaptation's Ray job: `python -m workers.adapt.job --store URL --attempt PREFIX`.

Reads `PREFIX/request.json`, runs the attempt under Ray Train, and leaves a manifest or a `failure.json`. It exits with
1 where neither could be written: the service then starts a new attempt.
"""

import argparse
import logging
import os
import sys
import tempfile
from typing import Final

import ray
import torch
from ray import train
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from search_spaces.errors import ArchPriorError, InvalidOptionError
from workers.adapt.attempt import REQUEST, run_attempt
from workers.adapt.plan import MAX_CPUS_PER_WORKER
from workers.adapt.resources import share_of_cluster
from workers.adapt.sync import Group
from workers.contracts.adaptations import AttemptRequest, Failure
from workers.contracts.errors import CancelledError, NewerFormatError, StoreError
from workers.store.patient import open_patiently
from workers.store.protocol import Store

STORE_PATIENCE_S: Final = 90.0
"""How long a store may be away without costing the attempt; what it was late to tell of its progress is left out."""

log = logging.getLogger("archprior.adapt")


def train_attempt(config: dict[str, str]) -> None:
    """The training function of Ray Train: one rank of one attempt. Leaves `failure.json` where no retry would help."""
    store = open_patiently(config["store_url"], patience_s=STORE_PATIENCE_S)
    key = config["attempt_key"]
    context = train.get_context()
    device = train.torch.get_device() if config["gpus"] != "0" else torch.device("cpu")
    group = Group(rank=context.get_world_rank(), size=context.get_world_size(), device=device)
    torch.set_num_threads(int(config["num_threads"]))
    try:
        run_attempt(store, key, group, device, prompt=store.prompt)
    except StoreError:
        raise  # a store that is away may be back for the next attempt
    except ArchPriorError as error:
        if group.leads or not isinstance(error, CancelledError):
            _leave_failure(store, key, error)
        if group.size > 1:
            raise  # else the other ranks wait for this one until their exchange times out


def main(arguments: list[str] | None = None) -> int:
    """Run one attempt as a Ray job; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, help="URL of the object store")
    parser.add_argument("--attempt", required=True, help="key prefix of the attempt")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    store = open_patiently(options.store, patience_s=STORE_PATIENCE_S)
    try:
        attempt = AttemptRequest.from_stored(store.get_bytes(f"{options.attempt}/{REQUEST}"), REQUEST)
        ray.init(address="auto", log_to_driver=True)
        with tempfile.TemporaryDirectory(prefix="archprior-train-") as storage:
            _fit(options.store, options.attempt, attempt, storage)
    except (InvalidOptionError, NewerFormatError) as error:
        _leave_failure(store, options.attempt, error)
    return 0


def _leave_failure(store: Store, attempt_key: str, error: ArchPriorError) -> None:
    log.warning("attempt %s ends: %s", attempt_key, error)
    failure = Failure(**error.to_dict())
    store.put_bytes(f"{attempt_key}/failure.json", failure.model_dump_json().encode(), media_type="application/json")


def _fit(store_url: str, attempt_key: str, attempt: AttemptRequest, storage: str) -> None:
    """Run the training function under Ray Train. Artifacts go to the store; Ray's own storage holds nothing of ours."""
    num_workers = attempt.request.num_workers
    cpus, gpus = _resources(num_workers)
    log.info("attempt %s: %d workers with %d CPUs and %d GPUs each", attempt_key, num_workers, cpus, gpus)
    trainer = TorchTrainer(
        train_attempt,
        train_loop_config={
            "store_url": store_url,
            "attempt_key": attempt_key,
            "num_threads": str(cpus),
            "gpus": str(gpus),
        },
        scaling_config=ScalingConfig(
            num_workers=num_workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": float(cpus), "GPU": float(gpus)} if num_workers else None,
        ),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        run_config=RunConfig(name=f"{attempt.adaptation_id}-a{attempt.attempt}", storage_path=storage),
    )
    trainer.fit()


def _resources(num_workers: int) -> tuple[int, int]:
    """Return CPUs and GPUs of each worker; with none, of this process, to which Ray grants no GPU."""
    if num_workers == 0:
        return min(len(os.sched_getaffinity(0)), MAX_CPUS_PER_WORKER), 0
    return share_of_cluster([node["Resources"] for node in ray.nodes() if node["Alive"]], num_workers)


if __name__ == "__main__":
    sys.exit(main())
