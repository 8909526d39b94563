import json

import pytest

from search_spaces.errors import ArchPriorError
from service.errors import ConflictError, InvalidRequestError, NotFoundError
from service.meta_runs.intake import MetaRunIntake
from service.priors.catalog import PriorCatalog
from service.records.datasets import DatasetRecords
from service.records.priors import PriorRecords
from service.schemas import Comparison, DatasetChange
from workers.contracts.datasets import DatasetReport
from workers.contracts.errors import InvalidDatasetError, InvalidPriorError
from workers.contracts.loss_model import TrialConfig
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import DatasetChoice, MetaRunRequest
from workers.priors.registry import DEFAULTS, bundled_cards
from workers.store import layout

OWNER = {"owner": "local"}
BUNDLED = DEFAULTS["nas_bench_201"]
TWELVE = tuple("abcdefghijkl")


@pytest.fixture
def add_dataset(database):
    """Returns a function that records a dataset of some classes, and returns its id."""
    datasets = DatasetRecords(database)

    def add(name="letters", classes=TWELVE, *, num_images=9, meta_use=True):
        report = DatasetReport(
            classes=classes,
            num_images=(num_images,) * len(classes),
            median_size=12,
            min_size=12,
            max_size=12,
            modes={"L": 1},
        )
        sha256 = name.ljust(64, "0")
        dataset, _ = datasets.add(name=name, sha256=sha256, num_bytes=10, report=report, **OWNER)
        return datasets.change(dataset.id, DatasetChange(meta_use=meta_use, terms="ours"), **OWNER).id

    return add


@pytest.fixture
def catalog(database, store):
    return PriorCatalog(PriorRecords(database), store)


@pytest.fixture
def intake(database, meta_runs, catalog):
    return MetaRunIntake(datasets=DatasetRecords(database), meta_runs=meta_runs, priors=catalog)


@pytest.fixture
def add_prior(catalog, own_card, tensors):
    """Returns a function that puts a prior like the bundled one there, with some of its card changed."""

    def add(**changes):
        card = own_card.model_copy(update=changes)
        catalog.add(card, tensors, **OWNER)
        return card.id

    return add


def request(*choices, config=None, **fields):
    return MetaRunRequest(datasets=choices, config=MetaConfig.model_validate(config or {}), **fields)


def choice(dataset_id, **fields):
    return DatasetChoice(dataset_id=dataset_id, **fields)


def test_every_reference_is_resolved(intake, add_dataset):
    letters = add_dataset()
    asked = request(choice(letters, weight=2.0, meta_validation=("a", "b"), meta_test=("c",)))
    (resolved,) = intake.add(asked, **OWNER).datasets
    assert (resolved.dataset_id, resolved.name, resolved.terms, resolved.weight) == (letters, "letters", "ours", 2.0)
    assert resolved.archive_key == layout.dataset_archive(resolved.sha256)
    assert resolved.report_key == layout.dataset_report(resolved.sha256)
    assert (resolved.meta_train, resolved.meta_validation, resolved.meta_test) == (TWELVE[3:], ("a", "b"), ("c",))


def test_held_out_classes_that_are_not_named_are_drawn_by_the_seed(intake, add_dataset):
    letters = add_dataset()
    drawn = {}
    for seed in (1, 1, 2, 3, 4):
        (resolved,) = intake.add(request(choice(letters), config={"seed": seed}), **OWNER).datasets
        assert sorted(resolved.meta_train + resolved.meta_validation) == sorted(TWELVE)
        assert len(resolved.meta_validation) == 2
        assert drawn.setdefault(seed, resolved.meta_validation) == resolved.meta_validation
    assert len(set(drawn.values())) > 1


def test_trials_are_asked_for_as_the_configuration_says(intake, add_dataset):
    trials = {"num_tasks": 4, "num_archs": 3, "weights": "fresh"}
    recorded = intake.add(request(choice(add_dataset()), config={"trials": trials}), **OWNER)
    assert recorded.request.config.trials.model_dump(include=set(trials)) == trials


def test_a_prior_that_has_made_trials_can_be_compared(intake, add_dataset, add_prior, own_card):
    tried = add_prior(config={**own_card.config, "trials": TrialConfig().model_dump(mode="json")})
    compared = intake.compare(Comparison(priors=(tried, BUNDLED), datasets=(choice(add_dataset()),)), **OWNER)
    assert compared.request.priors == (tried, BUNDLED)


def test_a_dataset_that_is_not_here_is_not_found(intake, meta_runs):
    with pytest.raises(NotFoundError, match="ds-none"):
        intake.add(request(choice("ds-none")), **OWNER)
    assert meta_runs.waiting() == ()


def test_a_dataset_is_learned_from_only_where_its_owner_allows_it_and_the_refusal_says_how(intake, add_dataset):
    private = add_dataset(meta_use=False)
    with pytest.raises(ConflictError, match="letters") as caught:
        intake.add(request(choice(private)), **OWNER)
    assert f"PATCH /v1/datasets/{private}" in caught.value.todo
    assert '{"meta_use": true}' in caught.value.todo


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"meta_validation": ("a", "zebra")}, "zebra"),
        ({"meta_test": ("zebra",)}, "zebra"),
        ({"meta_validation": ("a", "b"), "meta_test": ("b",)}, "twice"),
        ({"meta_validation": ("a", "a")}, "twice"),
        ({"meta_test": TWELVE}, "too few"),
    ],
)
def test_a_split_that_cannot_be_is_refused_with_the_reason(intake, add_dataset, meta_runs, fields, told):
    letters = add_dataset()
    with pytest.raises(InvalidDatasetError, match=told) as caught:
        intake.add(request(choice(letters, **fields)), **OWNER)
    assert "letters" in str(caught.value)
    assert meta_runs.waiting() == ()


def test_a_dataset_with_fewer_classes_than_a_task_needs_is_refused_by_its_name(intake, add_dataset):
    few = add_dataset("few", ("a", "b", "c"))
    with pytest.raises(InvalidDatasetError, match="few") as caught:
        intake.add(request(choice(add_dataset()), choice(few)), **OWNER)
    assert "min_ways" in str(caught.value)
    intake.add(request(choice(few), config={"min_ways": 3}), **OWNER)
    without_tasks = {"num_steps": 10, "joint_steps": 10}
    intake.add(request(choice(few), config=without_tasks), **OWNER)
    with pytest.raises(InvalidDatasetError, match="few"):
        intake.add(request(choice(few), config={**without_tasks, "trials": {}}), **OWNER)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"search_space": "enas"}, "nas_bench_201"),
        ({"macro": {"skeleton": "imagenet", "num_channels": 16, "num_cells": 1}}, "skeleton"),
        ({"resolutions": (4,)}, "image_size"),
        ({"search_space": "darts"}, "config.macro"),
    ],
)
def test_what_no_network_can_be_built_for_is_refused(intake, add_dataset, config, told):
    with pytest.raises(ArchPriorError, match=told) as caught:
        intake.add(request(choice(add_dataset()), config=config), **OWNER)
    assert caught.value.code in {"unknown_name", "invalid_option"}
    assert caught.value.expected


def test_a_parent_has_to_fit(intake, add_dataset, add_prior):
    letters = add_dataset()
    own = add_prior()
    assert intake.add(request(choice(letters), parent=own), **OWNER).request.parent == own
    with pytest.raises(NotFoundError, match="gone"):
        intake.add(request(choice(letters), parent="gone"), **OWNER)
    darts = {"search_space": "darts", "macro": {"skeleton": "cifar", "num_channels": 8, "num_cells": 3}}
    with pytest.raises(InvalidPriorError, match="search space"):
        intake.add(request(choice(letters), parent=own, config=darts), **OWNER)
    other = {"macro": {"skeleton": "cifar", "num_channels": 8, "num_cells": 1}}
    with pytest.raises(InvalidPriorError, match="skeleton"):
        intake.add(request(choice(letters), parent=own, config=other), **OWNER)


def test_the_name_of_a_prior_that_is_there_is_refused(intake, add_dataset, add_prior):
    letters = add_dataset()
    for taken in (add_prior(), BUNDLED):
        with pytest.raises(ConflictError, match=taken):
            intake.add(request(choice(letters), prior_id=taken), **OWNER)


def test_a_name_leaves_room_for_what_a_stop_adds_to_it(intake, add_dataset):
    letters = add_dataset()
    intake.add(request(choice(letters), prior_id="x" * (128 - len("-s2000"))), **OWNER)
    with pytest.raises(InvalidRequestError, match="too long"):
        intake.add(request(choice(letters), prior_id="x" * (129 - len("-s2000"))), **OWNER)


@pytest.mark.parametrize("name", ["ours-s", "ours-s40-v2", "ours-seed4", "ours4"])
def test_a_name_that_only_looks_like_that_of_a_stopped_run_is_taken(intake, add_dataset, name):
    assert intake.add(request(choice(add_dataset()), prior_id=name), **OWNER).prior_id == name


def test_a_comparison_needs_no_leave_to_learn_and_reads_held_out_classes_only(intake, add_dataset, add_prior):
    private = add_dataset(meta_use=False)
    comparison = Comparison(
        priors=(BUNDLED, add_prior()), datasets=(choice(private, meta_validation=("b", "d", "c")),), seed=5
    )
    meta_run = intake.compare(comparison, **OWNER)
    (resolved,) = meta_run.datasets
    assert (resolved.meta_train, resolved.meta_validation, resolved.meta_test) == ((), ("b", "c", "d"), ())
    card, config = bundled_cards()[BUNDLED], meta_run.request.config
    assert (config.macro, config.search_space, config.resolutions) == (card.macro, card.search_space, card.resolutions)
    assert (config.seed, config.inner_lr) == (5, card.config["inner_lr"])


def test_a_comparison_takes_nothing_that_means_nothing_to_it(intake, add_dataset, add_prior):
    letters, priors = add_dataset(), (BUNDLED, add_prior())
    fields = {"prior_id": "new", "parent": BUNDLED, "budget_s": 60.0}
    with pytest.raises(InvalidRequestError) as caught:
        intake.add(request(choice(letters), kind="compare", priors=priors, **fields), **OWNER)
    assert set(caught.value.findings) == set(fields)
    with pytest.raises(InvalidRequestError, match="meta_test"):
        intake.add(request(choice(letters, meta_test=("a",)), kind="compare", priors=priors), **OWNER)


def test_priors_of_another_space_are_not_compared(intake, add_dataset, add_prior):
    other = add_prior(id="other-v1", search_space="darts")
    with pytest.raises(InvalidPriorError, match="other-v1"):
        intake.compare(Comparison(priors=(BUNDLED, other), datasets=(choice(add_dataset()),)), **OWNER)


def test_a_card_whose_configuration_cannot_be_read_says_so(intake, add_dataset, add_prior):
    strange = add_prior(id="strange-v1", config={"rate": 3})
    with pytest.raises(InvalidPriorError, match="strange-v1"):
        intake.compare(Comparison(priors=(strange, BUNDLED), datasets=(choice(add_dataset()),)), **OWNER)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "datasets"),
        ({"datasets": []}, "datasets"),
        ({"datasets": [{"dataset_id": "ds-1"}], "config": {"inner_rate": 1}}, "config.inner_rate"),
        ({"datasets": [{"dataset_id": "ds-1"}], "steps": 1}, "steps"),
        ({"datasets": [{"dataset_id": "ds-1"}, {"dataset_id": "ds-1"}]}, "each dataset once"),
        ({"datasets": [{"dataset_id": "ds-1"}], "config": {"rule": "unrolled"}}, "relaxed"),
        ({"datasets": [{"dataset_id": "ds-1"}], "prior_id": "../up"}, "prior_id"),
        ({"datasets": [{"dataset_id": "ds-1"}], "prior_id": "ours-s40"}, "stopped early"),
        ({"datasets": [{"dataset_id": "ds-1"}], "kind": "compare"}, "priors"),
        ({"datasets": [{"dataset_id": "ds-1"}], "name": "\ud800"}, "name"),
        ({"datasets": [{"dataset_id": "ds-1"}], "name": "a\0b"}, "name"),
        ({"datasets": [{"dataset_id": "ds-1"}], "name": "a\n"}, "name"),
        ({"datasets": [{"dataset_id": "ds-1"}], "kind": "compare", "priors": ["\ud800", "b"]}, "priors.0"),
        ({"datasets": [{"dataset_id": "ds-1"}], "config": {"search_space": "\ud800"}}, "config.search_space"),
    ],
)
def test_a_request_of_another_form_is_refused_by_the_field(shared_service, body, told):
    response = shared_service.client.post(
        "/v1/meta-runs", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "invalid_request"), problem
    assert told in str(problem["errors"])
    assert problem["todo"]


@pytest.mark.parametrize("prior", ["\ud800", "x" * 129])
def test_a_comparison_of_what_no_prior_is_called_is_refused_by_the_field(shared_service, prior):
    body = json.dumps({"priors": [BUNDLED, prior], "datasets": [{"dataset_id": "ds-1"}]})
    response = shared_service.client.post(
        "/v1/priors/compare", content=body, headers={"Content-Type": "application/json"}
    )
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "invalid_request"), problem
    assert "priors.1" in str(problem["errors"])


def test_a_body_that_is_no_json_is_refused(shared_service):
    headers = {"Content-Type": "application/json"}
    for body in ("{", '{"a": ' + "[" * 5000):
        response = shared_service.client.post("/v1/meta-runs", content=body, headers=headers)
        assert response.status_code in {400, 422}
        assert response.headers["Content-Type"] == "application/problem+json"
