"""How an attempt comes to its architecture: by limits, by what is asked for, by what a prior knows."""

from collections.abc import Mapping

import pytest
import torch

from search_spaces.architecture import Architecture
from search_spaces.network import Network
from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from tests.workers.adapt.attempts import CPU, MakeAttempt, run
from workers.adapt.adaptation import OVER_LIMIT, PUBLISHED
from workers.adapt.attempt import run_attempt
from workers.adapt.choice import inherited_network
from workers.adapt.data import TaskData
from workers.adapt.plan import Speed, export_seconds
from workers.adapt.sync import Group
from workers.contracts.adaptations import Plan
from workers.contracts.errors import LimitUnreachableError
from workers.contracts.loss_model import ENTRIES, TRAITS, LossModel, TrialConfig, TrialFindings, TrialWeights
from workers.contracts.priors import PriorCard
from workers.priors.model import body_shapes
from workers.priors.registry import CARD, TENSORS, bundled_cards, bundled_default, bundled_folder
from workers.priors.tensors import load_prior
from workers.store import layout
from workers.store.folder import FolderStore


@pytest.fixture
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine does, the same is planned, and nothing is cut."""
    from workers.adapt import adaptation as module

    fixed = Speed(search_step_s=0.05, path_s=0.02, candidate_s=0.3, train_step_s=0.1, forward_s=1e-4, export_s=5.0)
    monkeypatch.setattr(module, "measure_speed", lambda *_: fixed)
    monkeypatch.setattr(module, "choose_precision", lambda *_: "float32")
    monkeypatch.setattr(module.Budget, "elapsed_s", property(lambda _: 1.0))
    monkeypatch.setattr("workers.adapt.plan.MAX_TRAIN_EPOCHS", 10)
    monkeypatch.setattr("workers.adapt.plan.MIN_TRAIN_STEPS", 20)


def test_limits_hold_for_the_exported_network(store: FolderStore, make_attempt: MakeAttempt) -> None:
    _, metrics = run(store, make_attempt(max_params=75_000, budget_s=10.0))
    assert metrics.cost.params <= 75_000
    assert all(candidate.params <= 75_000 for candidate in metrics.candidates)


def test_under_a_limit_below_all_that_the_prior_has_learned_other_ops_are_taken_and_it_is_said(
    store: FolderStore, make_attempt: MakeAttempt
) -> None:
    # The lightest cell of the bundled prior has 170,522 parameters at ten classes, the empty one 73,306.
    _, metrics = run(store, make_attempt(max_params=130_000, budget_s=10.0, prior="nas_bench_201-v4"))
    assert 75_000 < metrics.cost.params <= 130_000
    assert "conv" in metrics.architecture
    assert metrics.verdict == (
        "No network that the prior has learned is within the limits: what makes most of them was trained. "
        "It has ops that the prior had ruled out: what weights those have began at random."
    )


def test_a_limit_that_no_architecture_meets_is_refused_with_the_smallest_cost(
    store: FolderStore, make_attempt: MakeAttempt
) -> None:
    key = make_attempt(max_macs=1000)
    with pytest.raises(LimitUnreachableError, match=r"max_macs.*at least"):
        run_attempt(store, key, Group(), CPU)
    assert store.size(f"{key}/manifest.json") is None


def test_an_architecture_that_is_given_is_trained_on_the_priors_weights_and_nothing_is_searched(
    store: FolderStore, make_attempt: MakeAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.adapt import adaptation as module

    inherited = []

    def watched(arch: Architecture, macro: Macro, parameters: Mapping[str, torch.Tensor], data: TaskData) -> Network:
        inherited.append({name: value.detach().clone() for name, value in parameters.items()})
        return inherited_network(arch, macro, parameters, data)

    monkeypatch.setattr(module, "inherited_network", watched)
    cell = "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    for number, prior in ((1, "nas_bench_201-v4"), (2, "none")):
        key = make_attempt(number=number, search="given", architecture=cell, prior=prior, budget_s=8.0)
        _, metrics = run(store, key)
        assert (metrics.architecture, metrics.searching_helped, metrics.candidates) == (cell, None, ())
        ruled_out = prior != "none"  # a convolution from input to output
        said = " It has ops that the prior had ruled out: what weights those have began at random." if ruled_out else ""
        assert metrics.verdict == f"The architecture that was given; nothing was searched.{said}"
        assert Plan.model_validate_json(store.get_bytes(f"{key}/plan.json")).architecture == cell
        assert (
            f"| search space, prior, search | nas_bench_201, {prior}, given |"
            in store.get_bytes(f"{key}/report.md").decode()
        )
    card = bundled_cards()["nas_bench_201-v4"]
    macro = Macro(num_channels=card.macro.num_channels, num_cells=card.macro.num_cells, num_classes=4, image_size=16)
    shapes = body_shapes("nas_bench_201", macro)
    loc = load_prior(bundled_folder() / card.id / TENSORS, SPACES["nas_bench_201"], shapes).loc
    from_prior, fresh = inherited
    assert all(torch.equal(from_prior[name], value) for name, value in loc.items())
    assert not any(torch.equal(fresh[name], value) for name, value in loc.items() if value.ndim > 1)


def test_without_a_prior_the_published_architecture_is_trained_or_what_makes_most_of_a_limit_below_it(
    store: FolderStore, make_attempt: MakeAttempt
) -> None:
    space = SPACES["nas_bench_201"]
    _, metrics = run(store, make_attempt(search="adapt", budget_s=8.0))
    assert (metrics.architecture, metrics.verdict) == (space.format(space.published()), PUBLISHED)
    limit = metrics.cost.params - 1
    _, within = run(store, make_attempt(number=2, search="adapt", budget_s=8.0, max_params=limit))
    assert within.verdict == OVER_LIMIT
    assert 0.75 * limit < within.cost.params <= limit
    for one in (metrics, within):
        assert (one.candidates, one.searching_helped) == ((), None)
        assert "too short" not in one.budget_note


def test_without_a_prior_the_network_is_as_wide_as_asked(store: FolderStore, make_attempt: MakeAttempt) -> None:
    usual, narrow = (
        run(store, make_attempt(number=number, search="adapt", budget_s=8.0, num_channels=channels))[1]
        for number, channels in ((1, None), (2, 8))
    )
    assert narrow.architecture == usual.architecture
    assert narrow.cost.params < 0.3 * usual.cost.params


def test_the_supernet_is_searched_where_that_is_asked_for_although_trials_would_choose(
    store: FolderStore, make_attempt: MakeAttempt
) -> None:
    key = make_attempt(search="supernet", prior="nas_bench_201-v4", budget_s=25.0)
    run(store, key)
    assert Plan.model_validate_json(store.get_bytes(f"{key}/plan.json")).num_search_steps > 0


@pytest.mark.parametrize(("name", "num_layers"), [("darts", 120), ("mobile", 20)])
def test_the_other_spaces_go_the_same_way(
    store: FolderStore, make_attempt: MakeAttempt, name: str, num_layers: int
) -> None:
    _, metrics = run(store, make_attempt(search_space=name, budget_s=15.0, resolution=16))
    space = SPACES[name]
    assert space.is_valid(space.parse(metrics.architecture))
    _, plain = run(store, make_attempt(number=2, search="adapt", search_space=name, budget_s=15.0, resolution=16))
    assert space.parse(plain.architecture) == space.published()
    # The export of many layers takes longer, and as much is set aside for it.
    assert metrics.plan["export_s"] > export_seconds(num_layers)


@pytest.mark.usefixtures("still_clock")
def test_same_seed_and_plan_give_the_same_architecture(store: FolderStore, make_attempt: MakeAttempt) -> None:
    """Speeds differ from run to run, and with them plans; held fixed, so is the architecture."""
    plans, found = [], []
    for number in (1, 2):
        key = make_attempt(number=number, budget_s=14.0, seed=3)
        _, metrics = run(store, key)
        plans.append(Plan.model_validate_json(store.get_bytes(f"{key}/plan.json")))
        found.append((metrics.architecture, [c.query_loss for c in metrics.candidates]))
    assert plans[0] == plans[1]
    assert plans[0].num_search_steps > 0
    assert found[0] == found[1]


@pytest.mark.usefixtures("still_clock")
def test_a_prior_that_made_trials_reads_the_dataset_and_proposes_what_they_foretell(
    store: FolderStore, make_attempt: MakeAttempt
) -> None:
    space = SPACES["nas_bench_201"]
    nothing = [[0.0] * space.num_options for _ in range(space.num_decisions)]
    tried = tried_prior(store, nothing, {**NO_EFFECT, "longest": -2.0})
    _, metrics = run(store, make_attempt(prior=tried, budget_s=20.0))
    foretold = [one for one in metrics.candidates if one.source.startswith("foretold")]
    assert foretold
    assert {space.depth(space.parse(one.architecture)).longest for one in foretold} == {3}
    raced = [one.architecture for one in metrics.candidates if "raced" in one.source]
    assert len(raced) > 1
    # The mode races in any case; the others are among those that are foretold to be best.
    assert {space.depth(space.parse(one)).longest for one in raced if one != mode_of_bundled()} == {3}


@pytest.mark.parametrize("worth", [2.5, 30.0])
def test_a_mode_that_trials_foretell_to_be_best_by_far_is_trained_without_a_race(
    worth: float, store: FolderStore, make_attempt: MakeAttempt
) -> None:
    space = SPACES["nas_bench_201"]
    mode = space.parse(mode_of_bundled())
    likes = [[-worth if option == chosen else 0.0 for option in range(space.num_options)] for chosen in mode.choices]
    tried = tried_prior(store, likes, NO_EFFECT)
    _, metrics = run(store, make_attempt(prior=tried, budget_s=20.0))
    assert metrics.architecture == mode_of_bundled()
    assert metrics.searching_helped is False
    assert "foretell nothing to be better than its mode" in metrics.verdict
    assert "too short" not in metrics.budget_note
    assert not [one for one in metrics.candidates if "raced" in one.source]


@pytest.mark.usefixtures("still_clock")
def test_what_trials_of_fresh_weights_foretell_is_not_what_an_adaptation_goes_by(
    store: FolderStore, make_attempt: MakeAttempt
) -> None:
    space = SPACES["nas_bench_201"]
    nothing = [[0.0] * space.num_options for _ in range(space.num_decisions)]
    tried = tried_prior(store, nothing, {**NO_EFFECT, "longest": -2.0}, "fresh")
    _, metrics = run(store, make_attempt(prior=tried, budget_s=12.0))
    assert metrics.candidates
    assert not [one for one in metrics.candidates if one.source.startswith("foretold")]


NO_EFFECT = dict.fromkeys(TRAITS, 0.0)


def mode_of_bundled() -> str:
    return bundled().mode


def bundled() -> PriorCard:
    return bundled_cards()[bundled_default("nas_bench_201") or ""]


def tried_prior(
    store: FolderStore, options: list[list[float]], traits: dict[str, float], weights: TrialWeights = "inherited"
) -> str:
    """Put the bundled prior with trials on its card into the store; return its id."""
    model = LossModel.model_validate(
        {"options": options, "traits": traits, "context_mean": dict.fromkeys(ENTRIES, 0.0), "noise": 0.1,
         "log_evidence": 0.0}
    )  # fmt: skip
    config = TrialConfig(weights=weights)
    ranks = None if weights == "fresh" else model.model_copy(update={"one_shot": 0.5})
    findings = TrialFindings(config=config, num_trials=9, chooses=model, ranks=ranks)
    card = bundled().model_copy(update={"id": "tried", "trials": findings})
    store.put_bytes(f"{layout.prior('tried')}/{CARD}", card.model_dump_json().encode())
    store.put_file(f"{layout.prior('tried')}/{TENSORS}", bundled_folder() / bundled().id / TENSORS)
    return "tried"
