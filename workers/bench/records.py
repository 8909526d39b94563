"""What is kept of each run (`runs/KEY.json`), and what it is told to do. Free of torch."""

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from workers.bench.runs import Run
from workers.contracts.adaptations import AdaptationRequest, Failure
from workers.contracts.artifacts import Metrics
from workers.contracts.base import Contract, StoredContract

# Goes up whenever the same request comes to ask for something else, as when Muon came to train the networks.
MEANING: Final = 4


class Outcome(Contract):
    """What a run has measured; see `Metrics` for what the numbers mean.

    Attributes:
        query_accuracy: Of the exported network on the images that are held out to the end, 0 to 1.
        wall_s: Seconds of the clock in its process, from taking up the order to the end: what a budget does not count
            included, but not the wait for a free CPU.
        cpu_s: CPU seconds of the whole process, beside the clock's: a busy machine shows there.
        code: Hash of the code that ran.
    """

    architecture: str
    accuracy: float
    query_accuracy: float | None
    nll: float | None
    calibration_error: float | None
    params: int
    macs: int
    resolution: int
    num_train: int
    num_query: int
    num_test: int
    searching_helped: bool | None
    verdict: str
    budget_note: str
    timings_s: dict[str, float]
    wall_s: float
    cpu_s: float
    code: str

    @classmethod
    def of(cls, metrics: Metrics, *, wall_s: float, cpu_s: float, code: str) -> "Outcome":
        """Return the outcome that an attempt's metrics tell."""
        curve = metrics.series.get("query_accuracy", ())
        return cls(
            architecture=metrics.architecture,
            accuracy=metrics.accuracy,
            query_accuracy=curve[-1][2] if curve else None,
            nll=metrics.nll,
            calibration_error=metrics.calibration_error,
            params=metrics.cost.params,
            macs=metrics.cost.macs,
            resolution=metrics.resolution,
            num_train=metrics.num_train,
            num_query=metrics.num_query,
            num_test=metrics.num_test,
            searching_helped=metrics.searching_helped,
            verdict=metrics.verdict,
            budget_note=metrics.budget_note,
            timings_s=metrics.timings_s,
            wall_s=wall_s,
            cpu_s=cpu_s,
            code=code,
        )


@dataclass(frozen=True, kw_only=True)
class Order:
    """What one run is to do, every reference resolved.

    Attributes:
        run: For whom.
        request: Of the adaptation.
        dataset_sha256: Of the archive in the store.
        prior_sha256: Of the prior's card, which has that of its tensors; None without a prior.
        threads: CPU threads of torch.
    """

    run: Run
    request: AdaptationRequest
    dataset_sha256: str
    prior_sha256: str | None
    threads: int

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides what is asked; not of the code, which the outcome tells."""
        request = self.request.model_dump(mode="json")
        parts = [MEANING, request, self.dataset_sha256, self.prior_sha256, self.threads]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class RunRecord(StoredContract):
    """How a run ended: with an outcome, or with a failure.

    Attributes:
        fingerprint: Of the order; a record of another one does not count.
        same_as: Key of the run whose outcome this is, where both were asked for the same; None: its own.
    """

    dataset: str
    arm: str
    seed: int
    budget_s: float
    fingerprint: str
    request: AdaptationRequest | None
    same_as: str | None = None
    outcome: Outcome | None = None
    failure: Failure | None = None

    @property
    def run(self) -> Run:
        """Whose record it is."""
        return Run(dataset=self.dataset, arm=self.arm, seed=self.seed, budget_s=self.budget_s)
