"""What a job of an adaptation leaves in the store, without training anything."""

import hashlib
import json
import time
from typing import Final

from service.ray.jobs import JobStatus
from workers.contracts.adaptations import AttemptRequest, Control, Failure, Progress
from workers.contracts.artifacts import MEDIA_TYPES, Artifact, CostReport, Interval, Manifest, Metrics
from workers.contracts.errors import ObjectMissingError
from workers.store.protocol import Store

# Of the request: what its job does.
FAILS_ONCE: Final = 101
FAILS: Final = 102
DEAF: Final = 103
ARCHITECTURE: Final = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


def play(store: Store, attempt_key: str, *, age_s: float, job_s: float) -> JobStatus:
    """Let a job that has run for `age_s` of its `job_s` seconds do what is due; return how it is then.

    The request's seed says what it does: it ends without a word in its first attempt (`FAILS_ONCE`) or in each
    (`FAILS`), does not listen (`DEAF`), or else succeeds, unless it is told to end.
    """
    attempt = AttemptRequest.model_validate_json(store.get_bytes(f"{attempt_key}/request.json"))
    seed = attempt.request.seed
    if seed != DEAF and _is_cancelled(store, attempt_key):
        failure = Failure(code="cancelled", what="the adaptation was cancelled")
        store.put_bytes(f"{attempt_key}/failure.json", failure.model_dump_json().encode())
        return JobStatus.SUCCEEDED
    if age_s < job_s or seed == DEAF:
        progress = Progress(phase="searching", fraction=0.5, elapsed_s=age_s, updated_at=time.time())
        store.put_bytes(f"{attempt_key}/progress.json", progress.model_dump_json().encode())
        return JobStatus.RUNNING
    if seed == FAILS or (seed == FAILS_ONCE and attempt.attempt == 1):
        return JobStatus.FAILED
    _succeed(store, attempt_key, attempt)
    return JobStatus.SUCCEEDED


def _is_cancelled(store: Store, attempt_key: str) -> bool:
    try:
        return Control.model_validate_json(store.get_bytes(f"{attempt_key}/control.json")).desired == "cancel"
    except ObjectMissingError:
        return False


def _succeed(store: Store, attempt_key: str, attempt: AttemptRequest) -> None:
    metrics = Metrics(
        adaptation_id=attempt.adaptation_id,
        attempt=attempt.attempt,
        request=attempt.request,
        architecture=ARCHITECTURE,
        prior="none",
        accuracy=0.9,
        accuracy_interval=Interval(low=0.85, high=0.94),
        per_class_accuracy={"a": 0.9, "b": 0.9},
        num_train=10,
        num_query=2,
        num_test=10,
        resolution=16,
        cost=CostReport(params=1000, macs=20_000),
        candidates=(),
        searching_helped=True,
        verdict="Nothing was trained.",
        timings_s={"total": 1.0},
        series={},
        max_reload_difference={},
        skipped_images=0,
        dataset_sha256=attempt.dataset_sha256,
        seed=attempt.request.seed,
        plan={},
        versions={},
    )
    architecture = {"space": "nas_bench_201", "arch": ARCHITECTURE}
    files = {"architecture.json": json.dumps(architecture).encode(), "metrics.json": metrics.model_dump_json().encode()}
    for name, data in files.items():
        store.put_bytes(f"{attempt_key}/{name}", data)
    artifacts = tuple(
        Artifact(name=name, num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), media_type=MEDIA_TYPES[name])
        for name, data in files.items()
    )
    manifest = Manifest(adaptation_id=attempt.adaptation_id, attempt=attempt.attempt, artifacts=artifacts)
    store.put_bytes(f"{attempt_key}/manifest.json", manifest.model_dump_json().encode())
