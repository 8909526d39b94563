"""From a wish to a recorded meta-run. Everything is checked before anything is recorded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from search_spaces.errors import InvalidOptionError, lookup
from search_spaces.registry import SPACES
from search_spaces.spec import Macro, SearchSpace
from service.errors import ConflictError, InvalidRequestError
from service.http.idempotency import once
from service.priors.catalog import PriorCatalog
from service.records.datasets import DatasetRecords
from service.records.idempotency import Once
from service.records.meta_runs import MetaRunRecords
from service.records.model import Dataset, MetaRun
from service.schemas import Comparison, MetaRunForm
from workers.contracts.errors import InvalidPriorError
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import DatasetChoice, MetaDataset, MetaRunRequest
from workers.contracts.priors import PriorCard
from workers.store import layout
from workers.tasks.class_split import check_ways, held_out_classes, split_classes

MAX_PRIOR_ID: Final = 128
# Of a comparison, what only learning looks at; an option that is accepted acts.
NOT_COMPARED: Final = ("prior_id", "parent", "budget_s")


@dataclass(frozen=True, kw_only=True)
class MetaRunIntake:
    """Checks what is asked, resolves it, records it.

    Attributes:
        datasets: Records of datasets.
        meta_runs: Records of meta-runs.
        priors: For those that a request names.
    """

    datasets: DatasetRecords
    meta_runs: MetaRunRecords
    priors: PriorCatalog

    def add(self, request: MetaRunRequest, *, owner: str, priority: int = 0, key: str | None = None) -> MetaRun:
        """Return the new meta-run that a request asks for. The same request with the same `key` makes no second one.

        Raises:
            IdempotencyKeyReusedError: Another request had this key.
            NotFoundError: A dataset or a prior is not there.
            ConflictError: A dataset may not be learned from, or the new prior's name is taken.
            ArchPriorError: The search space, the skeleton, a prior or a class split cannot be accepted.
        """
        form = MetaRunForm.model_validate({**request.model_dump(), "priority": priority})
        first = once(key, operation="create_meta_run", request=form)
        made = self.meta_runs.made_by(first, owner=owner)
        return made or self._add(request, owner=owner, priority=priority, first=first)

    def _add(self, request: MetaRunRequest, *, owner: str, priority: int = 0, first: Once | None) -> MetaRun:
        config = request.config
        _check_skeleton(lookup(SPACES, config.search_space, kind="search space"), config)
        if request.kind == "compare":
            _refuse(request, NOT_COMPARED)
        _check_name(request)
        for prior_id in filter(None, (request.parent, *request.priors)):
            _check_prior(self.priors.get(prior_id, owner=owner).card, config)
        datasets = tuple(self._resolve(choice, request, owner=owner) for choice in request.datasets)
        if request.kind == "learn" and (config.joint_steps < config.num_steps or config.trials is not None):
            check_ways([len(one.meta_train) for one in datasets], config.min_ways, names=[one.name for one in datasets])
        return self.meta_runs.add(request, datasets, owner=owner, priority=priority, once=first)

    def compare(self, comparison: Comparison, *, owner: str, key: str | None = None) -> MetaRun:
        """Return the new meta-run that judges priors; tasks and inner steps are as the first prior was learned with.

        Raises:
            ArchPriorError: As `add`.
        """
        first = once(key, operation="compare_priors", request=comparison)
        made = self.meta_runs.made_by(first, owner=owner)
        if made is not None:
            return made
        config = _config_of(self.priors.get(comparison.priors[0], owner=owner).card, seed=comparison.seed)
        try:
            request = MetaRunRequest(
                kind="compare",
                datasets=comparison.datasets,
                config=config,
                priors=comparison.priors,
                num_tasks=comparison.num_tasks,
            )
        except ValidationError as error:
            raise InvalidRequestError(
                "these priors cannot be compared so",
                findings=(found["msg"].removeprefix("Value error, ") for found in error.errors()),
                todo="Correct these fields.",
            ) from error
        return self._add(request, owner=owner, first=first)

    def resume(self, meta_run_id: str, *, owner: str) -> MetaRun:
        """Have a meta-run that was stopped or has failed go on, if its datasets may still be learned from.

        Raises:
            NotFoundError: There is no such meta-run, or what it needs is gone.
            ConflictError: It cannot be resumed, a dataset may not be learned from any more, or its prior's name was
                taken meanwhile.
        """
        seen = self.meta_runs.get(meta_run_id, owner=owner)
        check_use(seen.request, self.datasets, owner=owner)
        return self.meta_runs.request_resume(meta_run_id, owner=owner)

    def _resolve(self, choice: DatasetChoice, request: MetaRunRequest, *, owner: str) -> MetaDataset:
        dataset = self.datasets.get(choice.dataset_id, owner=owner)
        classes, num_images = dataset.report.classes, dataset.report.num_images
        meta_train: Sequence[str] = ()
        meta_test: Sequence[str] = ()
        if request.kind == "learn":
            _check_dataset(dataset)
            split = split_classes(
                classes,
                num_images,
                meta_validation=choice.meta_validation,
                meta_test=choice.meta_test,
                seed=request.config.seed,
                dataset=dataset.name,
            )
            meta_train, meta_validation, meta_test = split.meta_train, split.meta_validation, split.meta_test
        else:
            if choice.meta_test is not None:
                what = "a comparison reads no class that is not named: meta_test says nothing to it"
                raise InvalidRequestError(what, got=dataset.name, todo="Name the classes in meta_validation.")
            meta_validation = held_out_classes(
                classes, num_images, meta_validation=choice.meta_validation, dataset=dataset.name
            )
        return MetaDataset(
            dataset_id=dataset.id,
            name=dataset.name,
            sha256=dataset.sha256,
            archive_key=layout.dataset_archive(dataset.sha256),
            report_key=layout.dataset_report(dataset.sha256),
            weight=choice.weight,
            terms=dataset.terms,
            meta_train=tuple(meta_train),
            meta_validation=tuple(meta_validation),
            meta_test=tuple(meta_test),
        )


def check_use(request: MetaRunRequest, datasets: DatasetRecords, *, owner: str) -> None:
    """Refuse to learn from a dataset that may not be learned from any more; a comparison learns from none.

    Raises:
        NotFoundError: A dataset is not there.
        ConflictError: A dataset may not be learned from, or its record cannot be read.
    """
    if request.kind != "learn":
        return
    for choice in request.datasets:
        try:
            dataset = datasets.get(choice.dataset_id, owner=owner)
        except ValidationError as error:
            raise ConflictError(
                f"the record of dataset {choice.dataset_id} cannot be read",
                got="one that is damaged, or of another version",
                todo="Run the version of ArchPrior that wrote it, or leave this dataset out.",
            ) from error
        _check_dataset(dataset)


def _refuse(request: MetaRunRequest, names: Sequence[str]) -> None:
    given = [name for name in names if getattr(request, name) is not None]
    if given:
        raise InvalidRequestError(
            "a comparison learns nothing, so these fields mean nothing to it",
            findings=given,
            todo="Leave them out, or ask for kind learn.",
        )


def _check_name(request: MetaRunRequest) -> None:
    """Refuse a name that leaves no room for what a run that is stopped early adds to it."""
    longest = MAX_PRIOR_ID - len(f"-s{request.config.num_steps}")
    if request.prior_id is not None and len(request.prior_id) > longest:
        raise InvalidRequestError(
            "prior_id is too long: a run that is stopped early adds its number of steps",
            got=request.prior_id,
            expected=f"at most {longest} characters",
            todo="Choose a shorter name.",
        )


def _check_dataset(dataset: Dataset) -> None:
    if not dataset.meta_use:
        raise ConflictError(
            f"meta-runs may not learn from dataset {dataset.name}",
            got=dataset.id,
            todo=f'PATCH /v1/datasets/{dataset.id} with {{"meta_use": true}} allows it.',
        )


def _check_skeleton(space: SearchSpace, config: MetaConfig) -> None:
    """Refuse a skeleton that the space cannot build at one of the resolutions."""
    for resolution in config.resolutions:
        try:
            space.minimum_cost(Macro(**config.macro.model_dump(), num_classes=config.max_ways, image_size=resolution))
        except InvalidOptionError as error:
            raise InvalidOptionError(
                f"config.macro does not fit {space.name} at {resolution} pixels: {error.what}",
                got=error.got,
                expected=error.expected,
                todo=error.todo or "Change config.macro or config.resolutions.",
            ) from error


def _check_prior(card: PriorCard, config: MetaConfig) -> None:
    for what, got, expected in (
        ("belongs to another search space", card.search_space, config.search_space),
        ("has weights for another skeleton", card.macro, config.macro),
    ):
        if got != expected:
            raise InvalidPriorError(
                f"prior {card.id} {what}",
                got=str(got),
                expected=str(expected),
                todo="Name a prior of the configuration's search space and macro, or change these two.",
            )


def _config_of(card: PriorCard, *, seed: int) -> MetaConfig:
    """Return the configuration that a prior was learned with, for tasks of another seed.

    Raises:
        InvalidPriorError: The card's configuration is of another version of ArchPrior.
    """
    own = {
        "search_space": card.search_space,
        "macro": card.macro.model_dump(),
        "resolutions": card.resolutions,
        "seed": seed,
    }
    try:
        return MetaConfig.model_validate({**card.config, **own})
    except ValidationError as error:
        raise InvalidPriorError(
            f"the configuration on the card of prior {card.id} cannot be read: {error}",
            todo="Post a meta-run of kind compare with a config of your own.",
        ) from error
