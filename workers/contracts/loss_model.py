"""What a prior knows of how well architectures do: the part of its card that chooses by what a dataset looks like."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from workers.contracts.base import Contract

TRAITS: Final = ("longest", "shortest", "log_params", "log_macs")
"""Ops with weights on the longest and the shortest way through a cell; logarithms of parameters and MACs."""
ENTRIES: Final = ("images_per_class", "ways", "resolution", "color", "detail", "separability", "training_steps")
"""Of the description of a task, its data and how long is trained on them: see `workers.tasks.description`."""
# Numbers of a card that somebody else made: large enough for any, small enough for exponentials of differences.
Effect = Annotated[float, Field(ge=-1e6, le=1e6)]

TrialWeights = Literal["inherited", "fresh"]
TrialLength = Literal["steps", "seconds"]


class TrialConfig(Contract):
    """Trials: architectures trained for a moment on meta-train tasks, as they would be trained in the end.

    Attributes:
        num_tasks: Tasks that trials are made on. The second half of them tries what the first half says is good.
        num_archs: Architectures tried on each; the first is the prior's mode, unless networks begin with fresh weights.
        num_steps: Training steps of an architecture of typical cost, and of all where `length` is `steps`; those of the
            longest trials.
        num_steps_shares: Shares of `num_steps`, 1 among them, which tasks take in turn: trials of more than one length
            teach how the length of a training changes what is good.
        length: `steps`: as many for all. `seconds`: as many as fit into the time of a typical one's, by MACs.
        weights: Networks begin with those of the prior (`inherited`), or with fresh ones.
        batch_size: Images of a step.
        num_support: Most images that a trial learns from.
        num_query: Images that judge it.
    """

    num_tasks: int = Field(40, ge=2, le=10_000)
    num_archs: int = Field(8, ge=3, le=1000)
    num_steps: int = Field(100, ge=1, le=1_000_000)
    num_steps_shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((1.0,), min_length=1, max_length=100)
    length: TrialLength = "seconds"
    weights: TrialWeights = "inherited"
    batch_size: int = Field(64, ge=2, le=65_536)
    num_support: int = Field(4000, ge=2, le=1_000_000)
    num_query: int = Field(600, ge=2, le=1_000_000)

    @model_validator(mode="after")
    def _every_length_is_tried(self) -> Self:
        if max(self.num_steps_shares) != 1:
            raise ValueError("num_steps_shares: the longest trials take num_steps: give 1 among them")
        if len(self.num_steps_shares) > self.num_tasks // 2:
            raise ValueError("num_steps_shares: at most one for every two of num_tasks")
        return self

    def steps_on(self, task: int) -> int:
        """Return the training steps of an architecture of typical cost on the task of that number."""
        return self._steps(self.num_steps_shares[task % len(self.num_steps_shares)])

    @property
    def fewest_steps(self) -> int:
        """Training steps of an architecture of typical cost in the shortest trials."""
        return self._steps(min(self.num_steps_shares))

    def _steps(self, share: float) -> int:
        return max(1, round(share * self.num_steps))


class LossModel(Contract):
    """A linear model of the 0-1 loss that an architecture reaches on held-out images, in units of `noise`.

    Attributes:
        options: What each option of each decision adds: [E][O], 0 where there is no option.
        traits: What a unit of each trait adds, for the mean dataset.
        context: By entry of a dataset's description: what a unit of it above the mean adds to each trait's effect;
            empty where trials show no dependence on it.
        context_mean: Means of the descriptions' entries over the tasks of the trials.
        one_shot: What a unit of the cross-entropy before training, in units of the logarithm of the number of classes,
            adds; None: the model does without it.
        noise: What a trial's loss scatters about the model: a share of images, 0 to 1.
        log_evidence: Of the trials under the model, up to a constant.
    """

    options: tuple[tuple[Effect, ...], ...]
    traits: dict[str, Effect]
    context: dict[str, dict[str, Effect]] = Field(default_factory=dict)
    context_mean: dict[str, Effect]
    one_shot: Effect | None = None
    noise: float = Field(ge=1e-6, le=1e6)
    log_evidence: float

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        for effects in (self.traits, *self.context.values()):
            if effects.keys() != set(TRAITS):
                raise ValueError(f"traits, context: one number for each of {', '.join(TRAITS)}")
        if self.context_mean.keys() != set(ENTRIES) or not self.context.keys() <= set(ENTRIES):
            raise ValueError(f"context_mean, context: entries are {', '.join(ENTRIES)}")
        return self


class TrialFindings(Contract):
    """What trials taught a prior.

    Attributes:
        config: Of the trials.
        num_trials: That ended with a finite loss.
        flip: Whether they mirrored images.
        chooses: Predicts before anything runs on the dataset: what the prior's option logits come from.
        ranks: Predicts from the loss with inherited weights as well: what ranks candidates. None where trials began
            with fresh weights.
    """

    config: TrialConfig
    num_trials: int
    flip: bool = False
    chooses: LossModel
    ranks: LossModel | None = None
