"""One run: the adaptation that the service runs, from its request to its manifest, in this process."""

import hashlib
import time
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

import torch

from workers.adapt.attempt import REQUEST, run_attempt
from workers.adapt.plan import choose_macro
from workers.adapt.side import possible_sides
from workers.adapt.staging import read_report, stage
from workers.adapt.sync import Group
from workers.bench.records import Order, Outcome
from workers.contracts.adaptations import NO_PRIOR, AttemptRequest
from workers.contracts.artifacts import Metrics
from workers.priors.registry import PriorRegistry
from workers.store import layout
from workers.store.open import open_store
from workers.store.protocol import Store

METRICS: Final = "metrics.json"
PLAN: Final = "plan.json"
KEPT: Final = (METRICS, PLAN, REQUEST)
"""Of what an attempt leaves: the networks of hundreds of runs would fill a disk."""
# Whatever the budget of a run: decoding comes before it.
WARMING_BUDGET_S: Final = 3600.0
CPU: Final = torch.device("cpu")


def execute(store_url: str, order: Order) -> Outcome:
    """Run an order on the CPU and return what it measured.

    The dataset is decoded into the node's cache first: else the first run on it would pay for all others.

    Args:
        store_url: Of the benchmark's store, where dataset and prior lie.
        order: What to do.

    Raises:
        ArchPriorError: Why there is no result.
    """
    begun_s = time.monotonic()
    torch.set_num_threads(order.threads)
    store = open_store(store_url)
    key = layout.attempt(order.run.key, 1)
    _clear(store, key)  # of a run that was killed
    attempt = AttemptRequest(
        adaptation_id=order.run.key,
        attempt=1,
        request=order.request,
        dataset_key=layout.dataset_archive(order.dataset_sha256),
        dataset_sha256=order.dataset_sha256,
    )
    store.put_bytes(f"{key}/{REQUEST}", attempt.model_dump_json().encode())
    _decode(store, attempt)
    run_attempt(store, key, Group(), CPU)
    metrics = Metrics.from_stored(store.get_bytes(f"{key}/{METRICS}"), METRICS)
    _clear(store, key, but=KEPT)
    wall_s, cpu_s = time.monotonic() - begun_s, time.process_time()
    return Outcome.of(metrics, wall_s=round(wall_s, 2), cpu_s=round(cpu_s, 2), code=code_hash())


@cache
def code_hash() -> str:
    """Return a hash of the code that a run depends on, and of the bundled priors."""
    digest = hashlib.sha256()
    for package in ("search_spaces", "workers"):
        root = Path(str(resources.files(package)))
        for path in sorted(path for path in root.rglob("*") if path.suffix in (".py", ".safetensors")):
            digest.update(str(path.relative_to(root)).encode() + b"\0")
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _decode(store: Store, attempt: AttemptRequest) -> None:
    prior = attempt.request.prior or NO_PRIOR
    card = None if prior == NO_PRIOR else PriorRegistry(store).card(prior)
    report = read_report(store, attempt)
    patient = attempt.model_copy(update={"request": attempt.request.model_copy(update={"budget_s": WARMING_BUDGET_S})})
    # The largest side follows from the budget that was asked for; a run may learn at a smaller one.
    full = choose_macro(attempt.request, report, card).image_size
    for side in possible_sides(attempt.request, full, () if card is None else card.resolutions):
        stage(store, patient, report, side, CPU)


def _clear(store: Store, key: str, but: tuple[str, ...] = ()) -> None:
    for item in list(store.list(f"{key}/")):
        if item.key.rpartition("/")[2] not in but:
            store.delete(item.key)
