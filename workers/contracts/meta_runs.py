"""One meta-run: what was asked, what each attempt is told, what it tells back, what it leaves."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workers.contracts.artifacts import Artifact
from workers.contracts.base import Contract, StoredContract
from workers.contracts.meta_config import MetaConfig
from workers.contracts.priors import PRIOR_ID
from workers.contracts.series import Point

MetaPhase = Literal["starting", "loading", "learning", "trying", "judging", "publishing", "done"]
META_PHASES: tuple[MetaPhase, ...] = ("starting", "loading", "learning", "trying", "judging", "publishing", "done")
Kind = Literal["learn", "compare"]
PriorName = Annotated[str, Field(max_length=128)]
ClassNames = tuple[Annotated[str, Field(min_length=1, max_length=200)], ...]


class DatasetChoice(Contract):
    """A dataset to learn from, and which of its classes not to learn from.

    Attributes:
        dataset_id: Of this service.
        weight: How often tasks are drawn from it, relative to the other datasets. Absent: its number of classes.
        meta_validation: Classes that only judge the prior while it learns. Absent (with `meta_test` absent too): a
            fifth of the classes, drawn by the run's seed, where the dataset has at least ten; else none.
        meta_test: Classes that the run never reads.
    """

    dataset_id: str = Field(max_length=64)
    weight: float | None = Field(None, gt=0)
    meta_validation: ClassNames | None = None
    meta_test: ClassNames | None = None


class MetaRunRequest(Contract):
    """What a user may choose of a meta-run. Everything has a sensible default but the datasets.

    Attributes:
        kind: `learn` makes a new version of the prior; `compare` only judges `priors` on the held-out classes of
            `datasets`: all of their classes unless `meta_validation` names some.
        datasets: At least one, each once.
        config: How to learn; whatever changes the numbers.
        prior_id: Name of the prior that is made. Absent: the search space's name and the run's id. A run that is
            stopped early adds `-s` and its number of steps, so no name may end so itself.
        parent: Prior to begin from, of the same space and skeleton. Absent: fresh weights, uniform choices.
        priors: Of `compare`: ids of at least two priors of one space and skeleton.
        num_tasks: Held-out tasks that each judgement averages over.
        max_workers: Most gradient workers at once. Absent: as many as the cluster has room for.
        cpus_per_worker: CPUs, and threads of torch, of each.
        use_gpu: Whether each worker takes a GPU. Absent: if the cluster has one.
        budget_s: Seconds of learning, over all attempts, after which the run publishes what it has. The trials that
            follow all steps are not counted. Absent: no limit.
    """

    kind: Kind = "learn"
    name: str | None = Field(None, max_length=200)
    datasets: tuple[DatasetChoice, ...] = Field(min_length=1, max_length=100)
    config: MetaConfig = Field(default_factory=lambda: MetaConfig.model_validate({}))
    prior_id: str | None = Field(None, pattern=f"^{PRIOR_ID}$")
    parent: PriorName | None = None
    priors: tuple[PriorName, ...] = Field((), max_length=20)
    num_tasks: int = Field(20, ge=1, le=200)
    max_workers: int | None = Field(None, ge=1, le=1024)
    cpus_per_worker: int = Field(1, ge=1, le=64)
    use_gpu: bool | None = None
    budget_s: float | None = Field(None, ge=5.0)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        ids = [choice.dataset_id for choice in self.datasets]
        if len(set(ids)) < len(ids):
            raise ValueError("datasets: name each dataset once")
        if self.kind == "compare" and len(set(self.priors)) < 2:
            raise ValueError("priors: name at least two different priors to compare")
        if self.kind == "learn" and self.priors:
            raise ValueError("priors: only a run of kind compare takes them; parent is what a run begins from")
        if self.prior_id is not None and re.search("-s[0-9]+$", self.prior_id):
            raise ValueError("prior_id: names that end in -s and a number are those of runs that were stopped early")
        return self


class MetaDataset(Contract):
    """A dataset of a meta-run, resolved: where its checked archive lies, and which classes are for what.

    Attributes:
        name: As people know it.
        sha256: Hash of the archive's bytes, in hexadecimal.
        archive_key, report_key: Store keys of the archive and of the findings of its check.
        weight: As in `DatasetChoice`.
        meta_train, meta_validation, meta_test: Its classes by part, as the archive names them; disjoint.
    """

    dataset_id: str
    name: str
    sha256: str
    archive_key: str
    report_key: str
    weight: float | None = None
    terms: str = "not stated"
    meta_train: tuple[str, ...]
    meta_validation: tuple[str, ...] = ()
    meta_test: tuple[str, ...] = ()


class MetaAttemptRequest(StoredContract):
    """What the job of one attempt reads (`request.json`): the request with every reference resolved.

    Attributes:
        prior_id: Name of the prior to make; set whatever the request says.
        spent_s: Seconds of learning that earlier attempts have used up.
    """

    meta_run_id: str
    attempt: int = Field(ge=1)
    request: MetaRunRequest
    datasets: tuple[MetaDataset, ...]
    prior_id: str
    spent_s: float = 0.0


class MetaControl(StoredContract):
    """What the service tells a running meta-run (`control.json`), polled every 2 s.

    Attributes:
        desired: `stop` ends at the next step and publishes the prior so far; `cancel` ends and publishes nothing.
        max_workers: Most workers for now, so that adaptations find room; 0 pauses. None: no cap but the request's.
    """

    desired: Literal["run", "stop", "cancel"] = "run"
    max_workers: int | None = Field(None, ge=0)


class Adjustment(Contract):
    """A change of the numbers that a fault forced on the run: from this step on, bit equality is off.

    Attributes:
        what: `batch_divisor`: batches were divided by `value`, because a worker ran out of memory.
    """

    step: int
    what: Literal["batch_divisor"]
    value: int
    why: str


WorkerState = Literal["starting", "idle", "busy"]


class WorkerView(Contract):
    """One gradient worker, as the coordinator sees it.

    Attributes:
        id: Speaking name, also of its Ray actor.
        actor_id: Ray's id, for the dashboard's link; empty until it has answered.
        doing: Its slot, judgement or trial, in words; empty while idle.
        num_done: Slots that it finished.
    """

    id: str
    state: WorkerState
    node: str = ""
    pid: int = 0
    device: str = ""
    actor_id: str = ""
    doing: str = ""
    num_done: int = 0


class Counters(Contract):
    """What a run has done and lost so far, over this attempt.

    Attributes:
        slots: Gradients that moved the prior.
        not_finite: Gradients dropped because of infinities or NaN.
        stale: Gradients dropped because they were too old.
        duplicate: Gradients of slots that another worker had finished first.
        backups: Slow slots that were given to a second worker.
        lost_workers: Workers that died or hung.
        recomputed_steps: Steps taken again because the parameter actor was lost.
    """

    slots: int = 0
    not_finite: int = 0
    stale: int = 0
    duplicate: int = 0
    backups: int = 0
    lost_workers: int = 0
    recomputed_steps: int = 0


class MetaProgress(StoredContract):
    """What a running attempt says of itself (`progress.json`), at most once a second.

    Attributes:
        step: Meta-steps taken, over all attempts; it is the version of the prior.
        num_steps: That the run will take.
        num_tried, num_trials: Trials that are made, over all attempts, and that the run will make after its steps.
        fraction: Share of the work that is done, 0 to 1.
        elapsed_s: Seconds of learning in this attempt.
        eta_s: Estimated seconds until the last step; while trials are made, until the last of them.
        loss: Of the last steps, in nats per example.
        gradient_norms: By group, before clipping.
        entropies: Of each decision, in nats.
        slots_per_s: Over the last half minute.
        staleness: Mean versions between a gradient and the prior that it moved.
        data_wait: Share of the workers' time spent waiting for data, 0 to 1.
        max_workers: The cap that holds now; None: none.
        checkpoint_step: Of the last whole checkpoint; None: none yet.
        series: Bounded curves by name; a point is (step, seconds of learning in this attempt, value).
        updated_at: Seconds since the epoch, by the job's clock.
    """

    phase: MetaPhase
    step: int = 0
    num_steps: int = 0
    num_tried: int = 0
    num_trials: int = 0
    fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    elapsed_s: float = 0.0
    eta_s: float | None = None
    loss: float | None = None
    gradient_norms: dict[str, float] = Field(default_factory=dict)
    entropies: tuple[float, ...] = ()
    slots_per_s: float = 0.0
    staleness: float = 0.0
    data_wait: float = 0.0
    workers: tuple[WorkerView, ...] = ()
    max_workers: int | None = None
    counters: Counters = Counters()
    adjustments: tuple[Adjustment, ...] = ()
    checkpoint_step: int | None = None
    series: dict[str, tuple[Point, ...]] = Field(default_factory=dict)
    message: str = ""
    updated_at: float


EventKind = Literal[
    "phase",
    "worker_joined",
    "worker_left",
    "worker_lost",
    "judged",
    "tried",
    "checkpoint",
    "adjusted",
    "warning",
    "resumed",
]


class MetaEvent(Contract):
    """Something that happened in an attempt.

    Attributes:
        sequence: From 1, without gaps, within the attempt.
        at: Seconds since the epoch, by the job's clock.
        data: Numbers of it, such as held-out accuracy by number of inner steps.
    """

    sequence: int = Field(ge=1)
    at: float
    kind: EventKind
    step: int
    message: str
    data: dict[str, float] = Field(default_factory=dict)


class MetaEvents(StoredContract):
    """The last events of an attempt (`events.json`), oldest first; older ones are dropped from the front."""

    events: tuple[MetaEvent, ...] = ()


class PriorScore(Contract):
    """How well one prior adapts to held-out tasks: mean query accuracy by number of inner steps.

    Attributes:
        interval: Half width of the 95 % interval of the mean over tasks, by number of inner steps.
        tasks: Accuracy of each task, by number of inner steps: the same tasks for every prior of a comparison.
    """

    prior_id: str
    accuracy: dict[int, float]
    interval: dict[int, float]
    tasks: dict[int, tuple[float, ...]]


class MetaMetrics(StoredContract):
    """Every number that a meta-run's report shows (`metrics.json`).

    Attributes:
        prior_id: Of the prior that was published; None for a comparison.
        complete: Whether all steps were taken and all trials made; not so for a run that was stopped or ran out of
            budget.
        num_trials: Made, over all attempts.
        scores: Of the priors that were judged at the end on the same held-out tasks, the new one first, then the
            parent, or those compared; empty where nothing is held out.
        series: Curves over the whole run; a point is (step, value).
        seconds: By phase, in this attempt.
    """

    meta_run_id: str
    attempt: int
    request: MetaRunRequest
    prior_id: str | None
    complete: bool
    num_steps: int
    num_trials: int = 0
    scores: tuple[PriorScore, ...] = ()
    counters: Counters
    adjustments: tuple[Adjustment, ...] = ()
    data_wait: float
    series: dict[str, tuple[tuple[int, float], ...]] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)
    datasets: tuple[MetaDataset, ...]
    versions: dict[str, str]


class MetaManifest(StoredContract):
    """The list of an attempt's artifacts, written last: a result exists only if its manifest does.

    Attributes:
        prior_id: Under `priors/<prior_id>/`, put there before this; None for a comparison.
        step: Steps that it took.
        complete: As in `MetaMetrics`.
    """

    meta_run_id: str
    attempt: int
    prior_id: str | None
    step: int
    complete: bool
    artifacts: tuple[Artifact, ...]


class CheckpointManifest(StoredContract):
    """What makes a checkpoint whole (`manifest.json` in its folder, written last).

    Attributes:
        step: Version of the prior.
        config: Of the run: a checkpoint of another is refused.
        class_names: Whose heads it holds, by label.
        files: Sizes and hashes of the other files of the folder.
    """

    step: int
    config: MetaConfig
    class_names: tuple[str, ...]
    adjustments: tuple[Adjustment, ...] = ()
    files: tuple[Artifact, ...]
