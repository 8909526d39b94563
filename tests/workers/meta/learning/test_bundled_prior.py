"""Each bundled prior can be made again: its committed configuration replays its first steps."""

import json
from pathlib import Path
from statistics import fmean

import pytest

from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.data import LocalDataset, load_meta_data
from workers.meta.learning.loop import LOG, meta_train
from workers.meta.trials.campaign import TRIALS, read_trials
from workers.meta.trials.findings import find
from workers.priors.registry import bundled_cards, bundled_folder
from workers.tasks.class_split import ClassSplit

DOMAINS = Path(__file__).parents[4] / "build" / "domains"
# As the Makefile has them for these priors: weight, and file of the split.
DATA = {
    "imagenet32": (2.0, "split_without_cifar10.json"),
    "emoji": (1.0, "split_without_cifar10.json"),
    "scripts": (1.0, "split.json"),
    "mnist": (0.5, "split.json"),
}
# Priors whose weights have learned; the other has made trials only, in three of the domains.
LEARNED = ("darts-v1", "mobile-v1", "nas_bench_201-v4")
TRIALS_ONLY = "nas_bench_201-deep"
NUM_STEPS = 50
# Mean over the first 50 steps of the run that made the prior, from its log.
MEAN_LOSS = {"darts-v1": 5.1095, "mobile-v1": 5.3738, "nas_bench_201-v4": 5.2767}
# Rounding differs between CPUs and numbers of threads; over 50 steps at a rising rate it grows to about 1e-3.
TOLERANCE = 0.005


def config_of(name: str) -> MetaConfig:
    return MetaConfig.model_validate_json((bundled_folder() / name / "config.json").read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.skipif(not all((DOMAINS / one).is_dir() for one in DATA), reason="needs what `make domains` writes")
def test_the_first_steps_replay_to_the_committed_loss(name: str, tmp_path: Path) -> None:
    config = config_of(name)
    datasets = [
        LocalDataset(path=DOMAINS / one / f"{one}.npz", weight=weight, split=ClassSplit.read(DOMAINS / one / split))
        for one, (weight, split) in DATA.items()
    ]
    data = load_meta_data(datasets, max(config.resolutions))
    weights = data.dataset_weights
    meta_train(config, data.meta_train, None, tmp_path, num_steps=NUM_STEPS, dataset_weights=weights)
    losses = [json.loads(line)["loss"] for line in (tmp_path / LOG).read_text().splitlines()]
    assert len(losses) == NUM_STEPS
    assert fmean(losses) == pytest.approx(MEAN_LOSS[name], abs=TOLERANCE)


@pytest.mark.parametrize("name", bundled_cards())
def test_the_card_records_the_committed_configuration(name: str) -> None:
    config, card = config_of(name), bundled_cards()[name]
    assert MetaConfig.model_validate(card.config) == config
    assert card.num_steps == config.num_steps
    assert card.parent is None
    assert card.trials is not None
    assert card.trials.config == config.trials


@pytest.mark.parametrize("name", bundled_cards())
def test_a_prior_learned_from_its_domains_and_from_nothing_that_names_what_cifar10_shows(name: str) -> None:
    learned = {data.name: set(data.classes) for data in bundled_cards()[name].data}
    assert set(learned) == {f"{one}.npz" for one in DATA if (name, one) != (TRIALS_ONLY, "mnist")}
    assert not learned["imagenet32.npz"] & {"tabby", "bullfrog", "sports car", "gazelle", "guacamole", "abacus"}
    assert not learned["emoji.npz"] & {"animal-bird", "animal-mammal", "transport-air", "transport-ground"}


def test_what_the_prior_of_trials_only_foretells_is_what_its_records_teach() -> None:
    card, records = bundled_cards()[TRIALS_ONLY], read_trials(bundled_folder() / TRIALS_ONLY / TRIALS)
    assert card.trials is not None
    assert card.trials.config.weights == "fresh"
    assert len(records) == card.trials.num_trials == 84
    found = find(list(records.values()), config_of(TRIALS_ONLY))
    assert found.chooses.traits == pytest.approx(card.trials.chooses.traits, abs=1e-6)


def test_all_bundled_priors_are_used_by_a_test() -> None:
    assert set(bundled_cards()) == {*LEARNED, TRIALS_ONLY}
