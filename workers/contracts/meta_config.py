"""How a meta-prior is learned: the configuration that its card records and its checkpoints must agree with."""

from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from search_spaces.errors import ArchPriorError
from search_spaces.registry import SPACES
from search_spaces.spec import SMALLEST_IMAGE
from workers.contracts.base import Precision, StoredContract
from workers.contracts.loss_model import TrialConfig
from workers.contracts.priors import MacroSpec

# Where a configuration names a length only: uniform warm-up, then joint learning of the choices, then inner loops.
WARMUP_SHARE: Final = 0.6
JOINT_SHARE: Final = 0.95


class MetaConfig(StoredContract):
    """Everything that changes the numbers of a meta-training; same config, data and machine type: same prior.

    A run has three parts. During the first `warmup_steps` every class keeps a head of its own, paths are drawn
    uniformly and there are no inner steps: plain multi-task learning, which gives weights that a choice can be judged
    on. Up to `joint_steps` the heads stay, and the choices learn too, so that paths worth taking are taken more often.
    After that, each slot fits a fresh head, takes `num_inner_steps` inner steps from the prior on its support, and the
    prior moves by `rule` on its query.

    Attributes:
        architectures: In their space's string form: the prior chooses only among options that one of these has, and all
            others are ruled out for good. With one, its weights alone are learned, and the prior is sure of it. Empty:
            nothing is ruled out but what a parent did.
        rule: Of the meta-gradient: `kl`, `first_order`, `unrolled`.
        estimator: Of the gradient through choices: `relaxed`, `straight_through`, `score_function`.
        family: Of the weights' posterior: `gaussian` or `delta`.
        weighting: Of the tasks of a step: `task` (uniform) or `examples`.
        mode: `synchronous`: a step is the mean of its own `num_slots` slots, whoever computes them: 1 worker gives the
            same prior as 8. `asynchronous`: it is the mean of the next `num_slots` gradients that arrive, each at most
            `max_staleness` versions old and times `staleness_discount` for each of them.
        num_slots: Tasks per meta-step.
        resolutions: Image sides in pixels; a task draws one, by `resolution_weights`.
        min_ways, max_ways: Classes of a task of the third part; before it all classes take part.
        num_examples: Fewest and most images that a task may use, drawn log-uniformly: small datasets are met as often
            as large ones. Absent: all images of its classes.
        joint_batch: Images of a slot before the third part.
        path_sampling: Of the warm-up: `independent` draws an option of each decision for each slot; `fair` has each
            decision go through its options in a random order before any of them comes again.
        mode_share: Share of the second part's slots whose weights learn along the prior's mode, so that what is likely
            to be chosen is trained as a network of its own.
        choice_share: Share of each class's images that the weights never see before the third part; in the second, the
            option logits learn from these alone. 0: they learn from the images that the weights learn from.
        label_smoothing: Share of the labels that is spread over all classes, before the third part.
        num_support: Images of each inner step.
        num_query: Images that judge the adapted posterior.
        num_arch_samples: Architectures per score-function estimate.
        temperature: Of the relaxation, where one is used.
        inner_lr, inner_head_lr, inner_arch_lr, inner_scale_lr: Rates of the inner steps on weights, head, option logits
            and (`gaussian`) log scales; what has rate 0 stays at the prior's value.
        weight_kl, arch_kl: lambda_w and lambda_z of the meta-objective.
        inner_weight_kl, inner_arch_kl: lambda_w and lambda_z of the inner objective.
        weight_scale: sigma of the prior over weights, before it is learned (`gaussian`) or for good (`delta`).
        lr: Peak rate on the prior's weights: linear rise over `lr_rise_steps`, then a cosine to zero at `num_steps`.
        muon_lr: Peak rate of Muon on the kernels that mix channels, on the same schedule. 0: they learn by SGD at `lr`,
            as all other weights do. Muon's steps are of one length: such kernels do not decay, and what staleness would
            discount is not shorter, so it goes with `synchronous` only.
        arch_lr: Rate on the prior's option logits, and on the scales of gaussian weights (Adam). 0: they stay, and
            weights learn along one path a slot.
        arch_entropy: Nats of loss that a nat of a decision's entropy is worth: keeps the choices from being surer than
            the losses warrant.
        clip: Largest gradient norm of each group.
        precision: Of the forward and backward passes; `bfloat16` is mixed precision, weights stay float32.
        trials: What is tried once the weights have learned, to learn what choices are worth; None: nothing is, and the
            option logits stay as the steps left them.
        evaluate_every, checkpoint_every: Meta-steps between held-out curves, and between checkpoints.
    """

    search_space: str = Field("nas_bench_201", max_length=64)
    macro: MacroSpec = MacroSpec(num_channels=16, num_cells=1)
    architectures: tuple[str, ...] = Field((), max_length=100)
    seed: int = Field(0, ge=0)
    num_steps: int = Field(2000, ge=1)
    warmup_steps: int = Field(1200, ge=0)
    joint_steps: int = Field(1900, ge=0)
    mode: Literal["synchronous", "asynchronous"] = "synchronous"
    max_staleness: int = Field(4, ge=0)
    staleness_discount: float = Field(0.9, gt=0, le=1)
    num_slots: int = Field(1, ge=1)
    rule: Literal["kl", "first_order", "unrolled"] = "first_order"
    estimator: Literal["relaxed", "straight_through", "score_function"] = "score_function"
    family: Literal["gaussian", "delta"] = "delta"
    weighting: Literal["task", "examples"] = "task"
    resolutions: tuple[int, ...] = (16,)
    resolution_weights: tuple[float, ...] = (1.0,)
    min_ways: int = Field(5, ge=2)
    max_ways: int = Field(20, ge=2)
    num_examples: tuple[int, int] | None = None
    joint_batch: int = Field(128, ge=2)
    path_sampling: Literal["independent", "fair"] = "independent"
    mode_share: float = Field(0.0, ge=0, lt=1)
    choice_share: float = Field(0.0, ge=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    num_support: int = Field(128, ge=2)
    num_query: int = Field(128, ge=2)
    num_inner_steps: int = Field(4, ge=0)
    inner_lr: float = Field(0.01, ge=0)
    inner_head_lr: float = Field(0.1, ge=0)
    inner_arch_lr: float = Field(0.0, ge=0)
    inner_scale_lr: float = Field(0.0, ge=0)
    num_arch_samples: int = Field(2, ge=2)
    temperature: float = Field(1.0, gt=0)
    weight_kl: float = Field(0.0, ge=0)
    arch_kl: float = Field(0.0, ge=0)
    inner_weight_kl: float = Field(0.0, ge=0)
    inner_arch_kl: float = Field(0.0, ge=0)
    weight_scale: float = Field(0.1, gt=0)
    lr: float = Field(0.1, gt=0)
    muon_lr: float = Field(0.0, ge=0)
    lr_rise_steps: int = Field(200, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    arch_lr: float = Field(0.02, ge=0)
    arch_entropy: float = Field(0.0, ge=0)
    clip: float = Field(5.0, gt=0)
    flip: bool = True
    precision: Precision = "float32"
    trials: TrialConfig | None = None
    evaluate_every: int = Field(500, ge=1)
    checkpoint_every: int = Field(500, ge=1)

    @property
    def is_of_one(self) -> bool:
        """Whether the weights of one architecture alone are learned: nothing is left to choose."""
        return len({SPACES[self.search_space].parse(text) for text in self.architectures}) == 1

    @model_validator(mode="before")
    @classmethod
    def _shares_of_the_run(cls, given: object) -> object:
        """Fill in the lengths of the parts that were left out, as shares of the run's."""
        if not isinstance(given, Mapping):
            return given
        num_steps = given.get("num_steps", cls.model_fields["num_steps"].default)
        if not isinstance(num_steps, int):
            return given
        joint = given.get("joint_steps", round(JOINT_SHARE * num_steps))
        warmup = round(WARMUP_SHARE * num_steps)
        return {"joint_steps": joint, "warmup_steps": min(warmup, joint) if isinstance(joint, int) else warmup, **given}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.resolutions) != len(self.resolution_weights) or not self.resolutions:
            raise ValueError("resolution_weights: give one weight for each of resolutions, and at least one")
        if not self.warmup_steps <= self.joint_steps <= self.num_steps:
            raise ValueError("warmup_steps, joint_steps, num_steps: must not decrease")
        if self.trials is not None and min(self.resolutions) < SMALLEST_IMAGE:
            raise ValueError(f"trials: networks take images of at least {SMALLEST_IMAGE} pixels: raise resolutions")
        if self.max_ways < self.min_ways:
            raise ValueError("max_ways: at least min_ways")
        if self.num_examples is not None and not 2 <= self.num_examples[0] <= self.num_examples[1]:
            raise ValueError("num_examples: fewest, at least 2, and most, at least as many")
        if self.inner_arch_lr == 0 and (self.arch_kl > 0 or self.inner_arch_kl > 0):
            raise ValueError("arch_kl, inner_arch_kl: act only on choices that move: set inner_arch_lr above 0")
        if self.family == "gaussian" and self.inner_scale_lr == 0 and self.weight_kl > 0:
            raise ValueError("weight_kl: the gaussian family needs scales that move: set inner_scale_lr above 0")
        if self.family == "gaussian" and not self.arch_lr:
            raise ValueError("arch_lr: the scales of gaussian weights learn at it too: set it above 0")
        if self.family == "delta" and self.inner_scale_lr > 0:
            raise ValueError("inner_scale_lr: the delta family has no scales to move")
        if self.muon_lr and self.mode == "asynchronous":
            raise ValueError("muon_lr: its steps do not shrink with staleness: set mode synchronous, or leave it out")
        if self.rule == "unrolled" and self.estimator != "relaxed":
            raise ValueError("rule unrolled: needs the relaxed estimator, whose gradient is exact for common noise")
        return self

    @model_validator(mode="after")
    def _acts(self) -> Self:
        second_part = {"mode_share": self.mode_share, "choice_share": self.choice_share}
        idle = [name for name, value in second_part.items() if value and self.warmup_steps == self.joint_steps]
        if idle:
            raise ValueError(f"{', '.join(idle)}: the run has no second part: set joint_steps above warmup_steps")
        learning = {"choice_share": self.choice_share, "arch_entropy": self.arch_entropy}
        idle = [name for name, value in learning.items() if value]
        if idle and not self.arch_lr:
            raise ValueError(f"{', '.join(idle)}: act on choices that learn: set arch_lr above 0")
        if self.path_sampling == "fair" and not self.warmup_steps:
            raise ValueError("path_sampling: the run has no warm-up: set warmup_steps above 0")
        if self.label_smoothing and not self.joint_steps:
            raise ValueError("label_smoothing: the run has third-part steps only: set joint_steps above 0")
        if not self.architectures:
            return self
        if self.search_space not in SPACES:
            raise ValueError(f"search_space: unknown: {self.search_space}")
        space = SPACES[self.search_space]
        try:
            given = [space.parse(text) for text in self.architectures]
        except ArchPriorError as error:
            raise ValueError(f"architectures: {error}") from error
        if invalid := [space.format(arch) for arch in given if not space.is_valid(arch)]:
            raise ValueError(f"architectures: the output does not depend on the input: {', '.join(invalid)}")
        if self.trials is not None and self.trials.weights == "fresh":
            raise ValueError("architectures: trials with fresh weights ask nothing of the prior's: leave them out")
        if not self.is_of_one:
            return self
        choosing = {**second_part, "arch_entropy": self.arch_entropy, "inner_arch_lr": self.inner_arch_lr}
        idle = [name for name, value in choosing.items() if value]
        idle += ["path_sampling"] if self.path_sampling == "fair" else []
        idle += ["trials"] if self.trials is not None else []
        if idle:
            raise ValueError(f"{', '.join(idle)}: act on choices, and one architecture leaves none")
        return self
