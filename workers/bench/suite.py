"""What a benchmark compares, as a file says it: datasets, arms, seeds, budgets. Free of torch.

Each combination is a run: one adaptation, as the service would run it. Two arms are paired by dataset and seed, since a
seed fixes the split and the order of images, whatever the arm.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from search_spaces.registry import SPACES
from workers.adapt.plan import given_architecture
from workers.contracts.adaptations import MAX_ARCHITECTURE_CHARS, AdaptationRequest, Search
from workers.contracts.base import Contract, StoredContract

NAME: Final = "^[a-z0-9][a-z0-9_]{0,47}$"
Name = Annotated[str, Field(pattern=NAME)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]
Budgets = Annotated[tuple[Annotated[float, Field(ge=5.0, le=86_400.0)], ...], Field(min_length=1)]


class DatasetSpec(Contract):
    """A dataset of this machine.

    Attributes:
        path: Of a zip of class folders, a folder of them, or a packed npz; from the suite's file on.
        max_images: Most images; of every class and split folder the same share is kept. None: all.
        keep_split: Whether train, val and test folders stay what they are; else each seed splits all images anew.
    """

    path: str
    max_images: int | None = Field(None, ge=10)
    keep_split: bool = True


class ArchitectureOf(Contract):
    """What another arm's run of the same seed has ended with.

    Attributes:
        architecture_of: That arm.
        dataset: That it ran on; None: the same.
    """

    architecture_of: Name
    dataset: Name | None = None


class Arm(Contract):
    """One way to a network: an adaptation's request, but for dataset, seed and budget.

    Attributes:
        about: In words.
        prior: Id of a bundled prior, the folder of one from the suite's file on (with a slash), or `none`; None: the
            bundled one of the space.
        architecture: With search `given`: its string form, or whose result it is.
        reference: The arm that it is compared with, instead of the suite's.
        budgets_s: Instead of the suite's.
        datasets: That it runs on; None: all.
    """

    about: str = ""
    search_space: str = Field("nas_bench_201", max_length=64)
    prior: str | None = None
    search: Search = "adapt"
    architecture: Annotated[str, Field(max_length=MAX_ARCHITECTURE_CHARS)] | ArchitectureOf | None = None
    max_params: int | None = Field(None, ge=1)
    max_macs: int | None = Field(None, ge=1)
    resolution: int | None = Field(None, ge=8, le=256)
    num_channels: int | None = Field(None, ge=4, le=128)
    reference: Name | None = None
    budgets_s: Budgets | None = None
    datasets: tuple[Name, ...] | None = None

    def request(self, *, seed: int, budget_s: float, prior: str | None, architecture: str | None) -> AdaptationRequest:
        """Return the request of one run, with its references resolved.

        Raises:
            ValidationError: A value is out of its range.
        """
        return AdaptationRequest(
            search_space=self.search_space,
            prior=prior,
            search=self.search,
            architecture=architecture,
            budget_s=budget_s,
            max_params=self.max_params,
            max_macs=self.max_macs,
            resolution=self.resolution,
            num_channels=self.num_channels,
            num_workers=0,
            seed=seed,
        )


class Suite(StoredContract):
    """What is compared.

    Attributes:
        about: In words.
        reference: The arm that all others are compared with.
        budgets_s: Of each run, staging to manifest.
    """

    name: Name
    about: str = ""
    reference: Name
    seeds: Seeds
    budgets_s: Budgets
    datasets: dict[Name, DatasetSpec] = Field(min_length=1)
    arms: dict[Name, Arm] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for what, values in (("seeds", self.seeds), ("budgets_s", self.budgets_s)):
            if len(set(values)) != len(values):
                raise ValueError(f"{what} name one twice")
        known(self.arms, self.reference, "reference")
        for name, arm in self.arms.items():
            where = f"arm {name}"
            known(SPACES, arm.search_space, where)
            known(self.arms, self.reference_of(name), where)
            for dataset in arm.datasets or ():
                known(self.datasets, dataset, where)
            if isinstance(arm.architecture, ArchitectureOf):
                known(self.arms, arm.architecture.architecture_of, where)
                if arm.architecture.dataset is not None:
                    known(self.datasets, arm.architecture.dataset, where)
                if name in self._sources_of(name):
                    raise ValueError(f"{where} waits for its own result")
                if arm.search != "given":
                    raise ValueError(f"{where} names an architecture, which goes with search 'given' only")
                self._check_source_runs(name, arm.architecture)
            else:
                budget_s = self.budgets_of(name)[0]
                asked = arm.request(seed=0, budget_s=budget_s, prior=None, architecture=arm.architecture)
                given_architecture(asked)
        return self

    def reference_of(self, arm: str) -> str:
        """Return the arm that another is compared with; the suite's reference is that of itself."""
        return self.arms[arm].reference or self.reference

    def budgets_of(self, arm: str) -> tuple[float, ...]:
        """Return the budgets of an arm, in seconds."""
        return self.arms[arm].budgets_s or self.budgets_s

    def datasets_of(self, arm: str) -> tuple[str, ...]:
        """Return the datasets of an arm."""
        return self.arms[arm].datasets or tuple(self.datasets)

    def like_budget(self, arm: str, budget_s: float) -> float | None:
        """Return the budget of an arm that goes with another's: the same, else its only one, else None."""
        budgets = self.budgets_of(arm)
        if budget_s in budgets:
            return budget_s
        return budgets[0] if len(budgets) == 1 else None

    def _sources_of(self, arm: str) -> Iterator[str]:
        """Yield the arms whose results an arm waits for, up to the first that comes twice."""
        seen: set[str] = set()
        while isinstance(source := self.arms[arm].architecture, ArchitectureOf) and arm not in seen:
            seen.add(arm)
            arm = source.architecture_of
            if arm not in self.arms:
                return  # told of that arm itself
            yield arm

    def _check_source_runs(self, name: str, source: ArchitectureOf) -> None:
        space, its_space = self.arms[name].search_space, self.arms[source.architecture_of].search_space
        if space != its_space:
            raise ValueError(f"arm {name} of {space} waits for {source.architecture_of}, which is of {its_space}")
        its_datasets = self.datasets_of(source.architecture_of)
        for dataset in self.datasets_of(name):
            if (source.dataset or dataset) not in its_datasets:
                raise ValueError(f"arm {name} on {dataset} waits for a run that {source.architecture_of} has not")
        for budget_s in self.budgets_of(name):
            if self.like_budget(source.architecture_of, budget_s) is None:
                raise ValueError(
                    f"arm {name} at {budget_s:g} s: {source.architecture_of} has several budgets, not this"
                )


def known(names: Mapping[str, object], name: str, where: str) -> None:
    """Raise `ValueError` unless a name is known."""
    if name not in names:
        raise ValueError(f"{where} names {name!r}; known are {', '.join(names)}")
