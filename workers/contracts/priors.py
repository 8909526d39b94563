"""The card of a meta-prior: what it is, what it learned from, how to make it again."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from search_spaces.registry import SPACES
from workers.contracts.base import Contract, StoredContract
from workers.contracts.errors import InvalidPriorError
from workers.contracts.loss_model import TrialFindings

PRIOR_ID: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""What a prior may be called: it is part of keys and paths."""


class MacroSpec(Contract):
    """The skeleton that a prior's weights fit: everything of a network but its cell, its classes and its image size."""

    skeleton: Literal["cifar", "imagenet"] = "cifar"
    num_channels: int = Field(ge=1)
    num_cells: int = Field(ge=1)


class LearnedFrom(Contract):
    """A dataset that a prior learned from: named, hashed, with the terms under which its images stand."""

    name: str
    sha256: str
    terms: str
    classes: tuple[str, ...]


class PriorCard(StoredContract):
    """What a meta-prior is (`card.json`, beside `prior.safetensors`).

    Attributes:
        sha256: Hash of `prior.safetensors`, in hexadecimal.
        mode: The prior's most likely architecture, in its space's string form.
        resolutions: Image sides it was trained at, in pixels.
        inherits: In words: what an exported network inherits from this prior.
        command: The command that made it.
        config: The meta-training configuration.
        data: What it learned from, then what its parent did.
        curves: Bounded curves by name, as (step, value).
        parent: Prior that it began from; None: fresh weights.
        meta_run_id: Meta-run that made it; None: made on the command line.
        adjustments: In words: what faults changed of the configuration on the way.
        trials: What trials taught it of how well architectures do; None: there were none.
    """

    id: str = Field(pattern=f"^{PRIOR_ID}$")
    search_space: str
    macro: MacroSpec
    sha256: str
    num_bytes: int
    mode: str
    resolutions: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    num_steps: int
    inherits: str
    command: str
    config: dict[str, object]
    data: tuple[LearnedFrom, ...]
    curves: dict[str, tuple[tuple[int, float], ...]]
    created_at: str
    versions: dict[str, str]
    parent: str | None = None
    meta_run_id: str | None = None
    adjustments: tuple[str, ...] = ()
    trials: TrialFindings | None = None

    @property
    def terms(self) -> dict[str, str]:
        """The terms of the images, by their datasets' names; where two of a name differ, both."""
        found: dict[str, list[str]] = {}
        for learned in self.data:
            found.setdefault(learned.name, []).append(learned.terms)
        return {name: "; ".join(dict.fromkeys(terms)) for name, terms in found.items()}

    def require_weights(self) -> None:
        """Raise `InvalidPriorError` where it was made for its trials with fresh weights alone: no weights were learned.

        A meta-run takes a step at least.
        """
        has_fresh_trials = self.trials is not None and self.trials.config.weights == "fresh"
        if has_fresh_trials and self.num_steps <= 1 and self.parent is None:
            raise InvalidPriorError(
                f"prior {self.id} has learned no weights: it foretells which architecture to train from scratch",
                got=f"{self.num_steps} step of learning",
                expected="a prior with weights to begin at",
                todo="Name another prior, or 'none'; `archprior recommend` goes by this one.",
            )

    @model_validator(mode="after")
    def _options_of_the_space(self) -> Self:
        space = SPACES.get(self.search_space)
        if self.trials is None or space is None:
            return self
        for model in filter(None, (self.trials.chooses, self.trials.ranks)):
            shape = [len(row) for row in model.options]
            if shape != [space.num_options] * space.num_decisions:
                raise ValueError(f"trials: options of {space.num_decisions} decisions, {space.num_options} each")
        return self
