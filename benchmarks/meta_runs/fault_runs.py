"""Meta-runs as the service's job runs them, without the service: started, disturbed, resumed, looked at."""

import hashlib
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

import torch
from PIL import Image
from torch import Tensor

from benchmarks.machine import ROOT
from benchmarks.meta_runs.fault_nodes import Nodes
from benchmarks.noise import noise_classes
from workers.contracts.errors import ObjectMissingError
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import (
    DatasetChoice,
    MetaAttemptRequest,
    MetaDataset,
    MetaEvents,
    MetaMetrics,
    MetaProgress,
    MetaRunRequest,
)
from workers.store import layout
from workers.store.folder import FolderStore
from workers.tasks.archive import run_check
from workers.tasks.limits import ArchiveLimits

RESOLUTION: Final = 16
POLL_S: Final = 0.1
TIMEOUT_S: Final = 600.0


Fault = Callable[["Run", Nodes, MetaProgress], bool]
"""Called again and again while a run learns, until it returns True: it has struck, and will not again."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a run.

    Attributes:
        total_s: From the start of its first attempt to the end of its last.
        seconds: Of its last attempt, by phase.
        recomputed_steps: Steps that were taken twice.
        hash: Of the last checkpoint's tensors.
        did: What was done to it, and at which step.
        counters: Of its last attempt.
        events: Of its last attempt, but for phases and checkpoints.
    """

    total_s: float
    seconds: dict[str, float]
    recomputed_steps: int
    hash: str
    did: list[str]
    counters: dict[str, int]
    events: list[str]

    def as_dict(self) -> dict[str, object]:
        """Return all of it."""
        return {**vars(self), "total_s": round(self.total_s, 2)}


class Run:
    """A meta-run under way: its job, which it is told to be, and what was done to it.

    Args:
        store, folder: Where it reads and writes.
        request: Of its first attempt.
        address: Of the cluster.
    """

    def __init__(self, store: FolderStore, folder: Path, request: MetaAttemptRequest, address: str) -> None:
        self._store, self._folder, self._address = store, folder, address
        self._request = request
        self.did: list[str] = []
        self.lost_steps = 0
        self.began_s = self.last_s = time.monotonic()
        self._job = self._start()

    @property
    def key(self) -> str:
        """Prefix of the attempt that runs."""
        return layout.meta_attempt(self._request.meta_run_id, self._request.attempt)

    @property
    def ended(self) -> bool:
        """Whether the job is over."""
        return self._job.poll() is not None

    def progress(self) -> MetaProgress | None:
        """Return what the run says of itself, once it does."""
        try:
            return MetaProgress.model_validate_json(self._store.get_bytes(f"{self.key}/progress.json"))
        except ObjectMissingError:
            return None

    def kill_and_resume(self) -> None:
        """End the job's process, and start the next attempt."""
        before = self.progress()
        self.stop()
        kept = [int(key.split("/")[-2]) for key in self._checkpoints()]
        self.lost_steps += (0 if before is None else before.step) - max(kept, default=0)
        self._request = self._request.model_copy(update={"attempt": self._request.attempt + 1})
        self._job = self._start()

    def stop(self) -> None:
        """End the job's process at once."""
        self._job.kill()
        self._job.wait()

    def hash(self) -> str:
        """Return the hash of the last checkpoint's tensors."""
        last = max(self._checkpoints()).rpartition("/")[0]
        data = self._store.get_bytes(f"{last}/checkpoint.pt")
        digest = hashlib.sha256()
        for name, tensor in sorted(_tensors("", torch.load(BytesIO(data), weights_only=True))):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def log(self) -> str:
        """Return the end of the job's log."""
        return self._log_path.read_text()[-3000:]

    def _checkpoints(self) -> list[str]:
        prefix = f"{layout.checkpoints(self._request.meta_run_id)}/"
        return [item.key for item in self._store.list(prefix) if item.key.endswith("/manifest.json")]

    @property
    def _log_path(self) -> Path:
        return self._folder / f"{self._request.meta_run_id}-{self._request.attempt}.log"

    def _start(self) -> "subprocess.Popen[bytes]":
        self._store.put_bytes(f"{self.key}/request.json", self._request.model_dump_json().encode())
        store = f"file://{self._folder / 'objects'}"
        with self._log_path.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "workers.meta.job", "--store", store, "--attempt", self.key],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, "RAY_ADDRESS": self._address},
            )


def _tensors(name: str, value: object) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _tensors(f"{name}/{key}", part)


class Bench:
    """The store with the dataset, and the runs on it.

    Args:
        folder: For everything.
        config: Of all runs.
    """

    def __init__(self, folder: Path, config: MetaConfig) -> None:
        self._folder, self._config = folder, config
        self._store = FolderStore(folder / "objects", create=True)
        self._dataset = put_dataset(self._store, folder)
        os.environ["ARCHPRIOR_CACHE_DIR"] = str(folder / "cache")

    def run(self, name: str, fault: Fault, nodes: Nodes) -> Outcome:
        """Return what becomes of a run with a fault.

        Raises:
            RuntimeError: It failed, or took too long.
        """
        nodes.fill()
        run_id = name.replace(" ", "-")
        run = Run(self._store, self._folder, self._request(run_id), nodes.address)
        struck = False
        try:
            while not run.ended:
                progress = run.progress()
                if not struck and progress is not None and progress.phase == "learning":
                    struck = fault(run, nodes, progress)
                if time.monotonic() - run.began_s > TIMEOUT_S:
                    raise RuntimeError(f"{name}: not done within {TIMEOUT_S:.0f} s\n{run.log()}")
                time.sleep(POLL_S)
        finally:
            run.stop()
        total_s = time.monotonic() - run.began_s
        try:
            metrics = MetaMetrics.model_validate_json(self._store.get_bytes(f"{run.key}/metrics.json"))
        except ObjectMissingError as error:
            raise RuntimeError(f"{name}: the run failed\n{run.log()}") from error
        events = MetaEvents.model_validate_json(self._store.get_bytes(f"{run.key}/events.json")).events
        outcome = Outcome(
            total_s=total_s,
            seconds=metrics.seconds,
            recomputed_steps=run.lost_steps + metrics.counters.recomputed_steps,
            hash=run.hash(),
            did=run.did,
            counters=metrics.counters.model_dump(exclude_defaults=True),
            events=[f"{e.at:.1f} {e.kind}: {e.message}" for e in events if e.kind not in ("phase", "checkpoint")],
        )
        print(f"{name}: {total_s:.1f} s, {outcome.did}, {outcome.hash[:12]}", file=sys.stderr, flush=True)
        return outcome

    def _request(self, run_id: str) -> MetaAttemptRequest:
        asked = MetaRunRequest(
            datasets=(DatasetChoice(dataset_id=self._dataset.dataset_id),),
            config=self._config,
            max_workers=2,
            use_gpu=False,
        )
        return MetaAttemptRequest(
            meta_run_id=run_id, attempt=1, request=asked, datasets=(self._dataset,), prior_id=f"bench-{run_id}"
        )


def put_dataset(store: FolderStore, folder: Path) -> MetaDataset:
    """Put classes of noise into the store as an archive, checked as an upload is."""
    classes = noise_classes(24, 60, RESOLUTION)
    path = folder / "noise.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, (image, label) in enumerate(zip(classes.images, classes.labels, strict=True)):
            data = BytesIO()
            Image.fromarray(image.numpy()).save(data, format="PNG")
            archive.writestr(f"{classes.class_names[int(label)]}/{number}.png", data.getvalue())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    report = run_check(path, ArchiveLimits()).report
    store.put_file(layout.dataset_archive(sha256), path)
    store.put_bytes(layout.dataset_report(sha256), report.model_dump_json().encode())
    return MetaDataset(
        dataset_id="noise",
        name="noise",
        sha256=sha256,
        archive_key=layout.dataset_archive(sha256),
        report_key=layout.dataset_report(sha256),
        meta_train=classes.class_names,
    )
