"""What a finished adaptation leaves in the store."""

from typing import Final

from pydantic import Field

from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.base import Contract, StoredContract
from workers.contracts.series import Point

MANIFEST: Final = "manifest.json"
# What a finished attempt leaves now. Readers go by the manifest: those of older attempts list fewer files.
MEDIA_TYPES: Final[dict[str, str]] = {
    "architecture.json": "application/json",
    "weights.safetensors": "application/octet-stream",
    "model.onnx": "application/octet-stream",
    "model.pt2": "application/octet-stream",
    "predict.py": "text/x-python; charset=utf-8",
    "preprocessing.json": "application/json",
    "labels.json": "application/json",
    "metrics.json": "application/json",
    "cell.svg": "image/svg+xml",
    "curves.svg": "image/svg+xml",
    "report.md": "text/markdown; charset=utf-8",
    "card.md": "text/markdown; charset=utf-8",
}


class Artifact(Contract):
    """One file of an adaptation."""

    name: str
    num_bytes: int = Field(ge=0)
    sha256: str
    media_type: str


class Manifest(StoredContract):
    """The list of an attempt's artifacts, written last: a result exists only if its manifest does."""

    adaptation_id: str
    attempt: int
    artifacts: tuple[Artifact, ...]


class Interval(Contract):
    """A 95 % interval."""

    low: float
    high: float


class CostReport(Contract):
    """Of the exported, connected network, for one image: parameters, and multiply-accumulates (MACs)."""

    params: int
    macs: int


class CandidateReport(Contract):
    """One architecture that was considered: held-out score, cost, and whether it was the one exported."""

    architecture: str
    query_accuracy: float
    query_loss: float
    params: int
    macs: int
    source: str
    chosen: bool = False


class Metrics(StoredContract):
    """Every number that a report shows (`metrics.json`).

    Attributes:
        accuracy: Share of test images that the exported network labels correctly; 0 to 1.
        accuracy_interval: Wilson's 95 % interval for `accuracy`.
        nll: Mean negative log-likelihood of the test images' labels, in nats; None in files from before it was taken,
            or where it is not finite.
        calibration_error: Expected calibration error on test images, 0 to 1; None as for `nll`.
        num_test: Test images behind `accuracy`.
        num_learned: Images that the exported network was trained on: those of `num_train`, and most of those that
            choices were made by; 0 in files from before those were.
        repeats_left_out: Images that are no test images since they are equal, pixel by pixel, to one learned from.
        repeats_in_test: Such images among the test images: the dataset declares them.
        searching_helped: Whether the chosen architecture beat the prior's mode on held-out images.
        verdict: One sentence on what searching brought.
        timings_s: Seconds by phase; `total` runs from staging until the model files were loaded
            again and compared; curves, report and upload follow.
        max_reload_difference: Largest absolute difference of a logit between the trained network and each
            reloaded model file, on held-out images.
        prior_data: Datasets that the prior learned from, by name, with their terms.
    """

    adaptation_id: str
    attempt: int
    request: AdaptationRequest
    architecture: str
    prior: str
    accuracy: float
    accuracy_interval: Interval
    per_class_accuracy: dict[str, float]
    nll: float | None = None
    calibration_error: float | None = None
    num_train: int
    num_query: int
    num_test: int
    num_learned: int = 0
    repeats_left_out: int = 0
    repeats_in_test: int = 0
    resolution: int
    cost: CostReport
    candidates: tuple[CandidateReport, ...]
    searching_helped: bool | None
    verdict: str
    budget_note: str = ""
    timings_s: dict[str, float]
    series: dict[str, tuple[Point, ...]]
    max_reload_difference: dict[str, float]
    skipped_images: int
    dataset_sha256: str
    seed: int
    plan: dict[str, float | int | str | bool | None]
    versions: dict[str, str]
    prior_data: dict[str, str] = Field(default_factory=dict)
