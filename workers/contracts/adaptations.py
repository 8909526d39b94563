"""One adaptation: what was asked, what each attempt is told, what it tells back."""

from typing import Annotated, Final, Literal

from pydantic import Field

from workers.contracts.base import Contract, Precision, StoredContract
from workers.contracts.series import Point

Search = Literal["adapt", "supernet", "prior_mode", "random", "given"]
Phase = Literal["starting", "staging", "searching", "training", "exporting", "done"]

PHASES: tuple[Phase, ...] = ("starting", "staging", "searching", "training", "exporting", "done")
NO_PRIOR = "none"
MAX_ARCHITECTURE_CHARS: Final = 2000
"""More than any string form of the known spaces has."""


class AdaptationRequest(Contract):
    """What a user may choose. Everything has a sensible default but the dataset.

    Attributes:
        dataset_id: A dataset of this service.
        search_space: Name of a search space.
        prior: Id of a meta-prior, or `none` to begin with random weights. Absent: the one of the
            space that was promoted last, else the bundled one, else `none`.
        search: `adapt` does what promises most: it goes by the prior's trials of inherited weights, or contracts the
            posterior of a prior that made none, or without a prior trains the space's published architecture, or what
            makes most of the limits where that is over one. `supernet` contracts the posterior in any case.
            `prior_mode` takes the prior's most likely architecture and `random` one drawn uniformly, both then trained
            like any other: the baselines. `given` trains the one that `architecture` names, from the prior's weights,
            or from random ones without a prior.
        architecture: With `given`, and only then: in the space's string form.
        budget_s: Seconds from staging to manifest, over all attempts.
        max_params: Largest number of parameters of the exported network.
        max_macs: Largest number of multiply-accumulates for one image.
        resolution: Side of the square that images are resized to. Absent: chosen from the data and the seconds.
        num_channels: Width of the network's first stage where it has no prior: with one it is the prior's. Absent: the
            space's usual one.
        num_workers: Workers of the Ray Train group; 0 trains in the job's own process.
        seed: Of everything random.
    """

    dataset_id: str | None = Field(None, max_length=64)
    name: str | None = Field(None, max_length=200)
    search_space: str = Field("nas_bench_201", max_length=64)
    prior: str | None = Field(None, max_length=128)
    search: Search = "adapt"
    architecture: str | None = Field(None, min_length=1, max_length=MAX_ARCHITECTURE_CHARS)
    budget_s: float = Field(60.0, ge=5.0, le=86_400.0)
    max_params: int | None = Field(None, ge=1)
    max_macs: int | None = Field(None, ge=1)
    resolution: int | None = Field(None, ge=8, le=256)
    num_channels: int | None = Field(None, ge=4, le=128)
    num_workers: int = Field(1, ge=0, le=64)
    seed: int = Field(0, ge=0, lt=2**31)


class AttemptRequest(StoredContract):
    """What the job of one attempt reads (`request.json`): the request with every reference resolved.

    Attributes:
        request: As asked, with `prior` resolved to an id or `none`.
        dataset_key: Store key of the checked archive.
        dataset_sha256: Hash of that archive's bytes, in hexadecimal.
        spent_s: Budget that earlier attempts have used up, in seconds.
    """

    adaptation_id: str
    attempt: int = Field(ge=1)
    request: AdaptationRequest
    dataset_key: str
    dataset_sha256: str
    spent_s: float = 0.0


class Candidate(Contract):
    """The best architecture so far, in its space's string form, with its accuracy on held-out (never test) images."""

    architecture: str
    query_accuracy: float


class Progress(StoredContract):
    """What a running attempt says of itself (`progress.json`), at most once a second.

    Attributes:
        fraction: Share of the budget's work that is done, 0 to 1.
        elapsed_s: Seconds since this attempt's staging began.
        eta_s: Estimated seconds until the manifest.
        phases_s: Seconds spent in each phase so far.
        series: Bounded curves by name; a point is (step, seconds since staging, value).
        updated_at: Seconds since the epoch, by the job's clock.
    """

    phase: Phase
    fraction: Annotated[float, Field(ge=0, le=1)]
    elapsed_s: float
    eta_s: float | None = None
    phases_s: dict[str, float] = Field(default_factory=dict)
    step: int = 0
    best: Candidate | None = None
    series: dict[str, tuple[Point, ...]] = Field(default_factory=dict)
    message: str = ""
    updated_at: float


class Control(StoredContract):
    """What the service tells a running job (`control.json`), polled every 2 s."""

    desired: Literal["run", "cancel"] = "run"


class Failure(StoredContract):
    """Why an attempt ended without a manifest (`failure.json`); a new attempt would fail the same way."""

    code: str
    what: str
    got: str = ""
    expected: str = ""
    todo: str = ""


class Plan(StoredContract):
    """What an attempt will do (`plan.json`), fixed before it searches: same seed and plan, same architecture.

    Counts follow from the budget and from the speed that was measured at the start; a search that is slower than that
    is cut by the clock, and the report says so. The final training takes the seconds that are left.

    Attributes:
        architecture: The one that was given, in its space's string form; None where none was.
        flip: Whether mirrored images keep their label on this dataset, measured; only then are they mirrored.
        precision: Of the passes of search and training, measured: the faster one. What is judged is in float32.
        resolution: Side of the images in pixels, which may be below the data's own on a short budget.
        early_resolution: Of plans from before all steps saw one side: that of the first ones. None since.
        num_search_steps: Steps on the weights along paths drawn from the posterior; 0 where nothing is searched.
        choice_every: Search steps between two steps on the option logits.
        num_arch_samples: Architectures that each step on the logits compares.
        num_candidates: Architectures drawn for the choice, beside the prior's mode.
        race_steps: Steps of the race that the most likely architecture takes; cheaper ones take more. 0: no race.
        max_train_steps: Most steps of the final training; the clock may end it.
        search_s, choice_s, race_s, train_s, export_s: Seconds set aside.
    """

    search_space: str
    prior: str
    search: Search
    architecture: str | None = None
    seed: int
    skeleton: str
    num_channels: int
    num_cells: int
    num_classes: int
    resolution: int
    early_resolution: int | None = None
    num_train: int
    num_query: int
    num_test: int
    num_workers: int
    batch_size: int
    flip: bool
    precision: Precision = "float32"
    num_search_steps: int = Field(ge=0)
    choice_every: int = Field(ge=1)
    num_arch_samples: int = Field(ge=2)
    num_candidates: int = Field(ge=0)
    race_steps: int = Field(0, ge=0)
    max_train_steps: int = Field(ge=1)
    search_s: float
    choice_s: float
    race_s: float = 0.0
    train_s: float
    export_s: float
    max_params: int | None = None
    max_macs: int | None = None
