import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from search_spaces.architecture import Architecture
from search_spaces.export import Model, load_network, load_torch
from search_spaces.network import Network
from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from search_spaces.standalone.predict import Classifier
from workers.adapt.adaptation import OVER_LIMIT, PUBLISHED
from workers.adapt.attempt import run_attempt
from workers.adapt.card import write_card
from workers.adapt.choice import inherited_network, predict
from workers.adapt.data import TaskData
from workers.adapt.plan import Speed, export_seconds
from workers.adapt.sync import Group
from workers.contracts.adaptations import Plan, Progress
from workers.contracts.artifacts import MEDIA_TYPES, Manifest, Metrics
from workers.contracts.base import Precision
from workers.contracts.errors import CancelledError, ExportMismatchError, LimitUnreachableError
from workers.contracts.loss_model import ENTRIES, TRAITS, LossModel, TrialConfig, TrialFindings, TrialWeights
from workers.contracts.priors import PriorCard
from workers.priors.model import body_shapes
from workers.priors.registry import CARD, TENSORS, bundled_cards, bundled_default, bundled_folder
from workers.priors.tensors import load_prior
from workers.store import layout
from workers.store.folder import FolderStore
from workers.training.recipe import Trainer

MakeAttempt = Callable[..., str]
CPU = torch.device("cpu")


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


def run(store: FolderStore, key: str) -> tuple[Manifest, Metrics]:
    manifest = run_attempt(store, key, Group(), CPU)
    assert manifest is not None
    return manifest, Metrics.model_validate_json(store.get_bytes(f"{key}/metrics.json"))


def test_an_attempt_publishes_every_artifact_as_its_manifest_says(
    store: FolderStore, make_attempt: MakeAttempt, tmp_path: Path
) -> None:
    key = make_attempt(budget_s=25.0)
    manifest, metrics = run(store, key)
    assert [artifact.name for artifact in manifest.artifacts] == list(MEDIA_TYPES)
    for artifact in manifest.artifacts:
        data = store.get_bytes(f"{key}/{artifact.name}")
        assert (len(data), hashlib.sha256(data).hexdigest()) == (artifact.num_bytes, artifact.sha256)
    # Four digits are easy; chance is 0.25.
    assert metrics.accuracy > 0.5
    assert metrics.accuracy_interval.low <= metrics.accuracy <= metrics.accuracy_interval.high
    assert metrics.num_train + metrics.num_query + metrics.num_test == 240
    progress = Progress.model_validate_json(store.get_bytes(f"{key}/progress.json"))
    assert (progress.phase, progress.fraction) == ("done", 1.0)
    assert {"train_loss", "query_accuracy"} <= metrics.series.keys()
    assert metrics.num_learned == metrics.num_train + metrics.num_query - metrics.num_query // 4
    # The cost that is told is that of the network that is shipped.
    weights = tmp_path / "weights.safetensors"
    store.get_file(f"{key}/weights.safetensors", weights)
    network = load_network(weights)
    assert sum(p.numel() for p in network.parameters()) == metrics.cost.params
    assert SPACES["nas_bench_201"].parse(metrics.architecture) == network.architecture


def test_the_exported_model_files_take_bytes_and_any_batch_and_agree_with_the_report(
    store: FolderStore, make_attempt: MakeAttempt, tmp_path: Path
) -> None:
    key = make_attempt(search="random", budget_s=8.0)
    _, metrics = run(store, key)
    for name in ("model.onnx", "model.pt2", "predict.py", "preprocessing.json", "labels.json"):
        store.get_file(f"{key}/{name}", tmp_path / name)
        assert 0 <= metrics.max_reload_difference.get(name, 0.0) < 1e-3
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    program = load_torch(tmp_path / "model.pt2")
    side = metrics.resolution
    for number in (1, 5):
        images = np.zeros((number, 3, side, side), np.uint8)
        (logits,) = session.run(None, {"images": images})
        assert logits.shape == (number, 4)
        np.testing.assert_allclose(program(images), logits, atol=1e-3)
    assert Classifier(tmp_path).labels == ["0", "1", "2", "3"]
    script = resources.files("search_spaces.standalone").joinpath("predict.py").read_bytes()
    assert (tmp_path / "predict.py").read_bytes() == script
    report = store.get_bytes(f"{key}/report.md").decode()
    assert f"{metrics.accuracy:.1%}" in report
    assert f"{metrics.cost.params:,}" in report
    assert store.get_bytes(f"{key}/card.md").decode() == write_card(metrics)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_precision_that_is_faster_is_trained_in(
    store: FolderStore, make_attempt: MakeAttempt, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.adapt.start.faster_precision", lambda *_: precision)
    trained: list[str] = []

    def trainer(network: Network, chosen: Precision) -> Trainer:
        trained.append(chosen)
        return Trainer(network, chosen)

    monkeypatch.setattr("workers.adapt.final.Trainer", trainer)
    _, metrics = run(store, make_attempt(search="random", budget_s=8.0))
    assert metrics.plan["precision"] == precision
    assert trained == [precision]
    assert metrics.accuracy > 0.5


def test_images_are_shrunk_where_the_seconds_afford_few_looks_at_them(
    store: FolderStore, make_attempt: MakeAttempt, large_digits_zip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.adapt.side.mean_seconds", lambda *_: 60.0)  # of a very slow machine

    key = make_attempt(archive=large_digits_zip, search="random", budget_s=8.0)
    _, metrics = run(store, key)

    assert metrics.resolution == 16
    assert "images of 32 pixels: all were shrunk to 16." in metrics.budget_note
    space = SPACES["nas_bench_201"]
    macro = space.default_macro(num_classes=4, image_size=16)
    assert metrics.cost.macs == space.cost(space.parse(metrics.architecture), macro).macs
    preprocessing = json.loads(store.get_bytes(f"{key}/preprocessing.json"))
    assert preprocessing["image_size"] == 16

    asked = make_attempt(2, archive=large_digits_zip, search="random", budget_s=8.0, resolution=32)
    _, metrics = run(store, asked)
    assert (metrics.resolution, "shrunk" in metrics.budget_note) == (32, False)


def test_how_well_the_network_is_calibrated_is_told(store: FolderStore, make_attempt: MakeAttempt) -> None:
    _, metrics = run(store, make_attempt(search="random", budget_s=6.0))
    assert metrics.nll is not None
    assert metrics.calibration_error is not None
    assert 0 <= metrics.calibration_error <= 1
    # Its likelihood can hardly be below that of guessing where it is right most of the time.
    assert 0 < metrics.nll < 3


def test_what_is_reported_is_measured_on_the_test_images(
    store: FolderStore, make_attempt: MakeAttempt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from workers.adapt import attempt as module

    honest, staged = module.stage, list[TaskData]()

    def mislabeled(*arguments: object) -> TaskData:
        data = honest(*arguments)
        staged.append(replace(data, test=replace(data.test, labels=(data.test.labels + 1) % 4)))
        return staged[0]

    monkeypatch.setattr(module, "stage", mislabeled)
    key = make_attempt(search="random", budget_s=8.0)
    _, metrics = run(store, key)
    store.get_file(f"{key}/weights.safetensors", tmp_path / "weights.safetensors")
    test = staged[0].test
    found = predict(load_network(tmp_path / "weights.safetensors"), test).argmax(dim=1)
    assert metrics.accuracy == pytest.approx(float((found == test.labels).double().mean()))
    assert metrics.accuracy < float(((found + 1) % 4 == test.labels).double().mean())


def test_limits_hold_for_the_exported_network(store: FolderStore, make_attempt: MakeAttempt) -> None:
    _, metrics = run(store, make_attempt(max_params=75_000, budget_s=10.0))
    assert metrics.cost.params <= 75_000
    assert all(candidate.params <= 75_000 for candidate in metrics.candidates)


def test_under_a_limit_below_all_that_the_prior_has_learned_other_ops_are_taken_and_it_is_said(
    store: FolderStore, make_attempt: MakeAttempt
) -> None:
    # The lightest cell of the bundled prior has 170,522 parameters at ten classes, the empty one 73,306.
    _, metrics = run(store, make_attempt(max_params=130_000, budget_s=10.0, prior="nas_bench_201-v3"))
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
    for number, prior in ((1, "nas_bench_201-v3"), (2, "none")):
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
    card = bundled_cards()["nas_bench_201-v3"]
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


def test_the_supernet_is_searched_where_that_is_asked_for_although_trials_would_choose(
    store: FolderStore, make_attempt: MakeAttempt
) -> None:
    key = make_attempt(search="supernet", prior="nas_bench_201-v3", budget_s=25.0)
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


def test_a_budget_too_short_still_ends_with_a_network_and_says_so(
    store: FolderStore, make_attempt: MakeAttempt
) -> None:
    key = make_attempt(budget_s=20.0, spent_s=19.0)
    _, metrics = run(store, key)
    assert "too short" in metrics.budget_note


def test_a_budget_holds(store: FolderStore, make_attempt: MakeAttempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.adapt.plan.MAX_TRAIN_EPOCHS", 100_000)  # only the clock ends the training
    _, metrics = run(store, make_attempt(budget_s=20.0))
    # The export's seconds are an estimate, to which a busy machine adds.
    assert sum(metrics.timings_s[phase] for phase in ("staging", "searching", "training")) < 20.0


def test_a_cancel_stops_the_attempt_without_a_manifest(store: FolderStore, make_attempt: MakeAttempt) -> None:
    key = make_attempt()
    store.put_bytes(f"{key}/control.json", b'{"desired": "cancel"}')
    with pytest.raises(CancelledError):
        run_attempt(store, key, Group(), CPU)
    assert store.size(f"{key}/manifest.json") is None


@pytest.mark.parametrize(("loader", "file"), [("load_onnx", "model.onnx"), ("load_torch", "model.pt2")])
def test_a_model_file_that_predicts_something_else_is_not_published(
    store: FolderStore, make_attempt: MakeAttempt, monkeypatch: pytest.MonkeyPatch, loader: str, file: str
) -> None:
    from workers.adapt import publish

    honest = getattr(publish, loader)

    def load(path: Path) -> Model:
        model = honest(path)
        # Wrong for one image alone, as a file with a fixed batch would be.
        return lambda images: model(images) + 0.1 * (len(images) == 1)

    monkeypatch.setattr(publish, loader, load)
    key = make_attempt(search="random", budget_s=8.0)
    with pytest.raises(ExportMismatchError, match=rf"{file} predicts something else"):
        run_attempt(store, key, Group(), CPU)
    assert store.size(f"{key}/manifest.json") is None


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
