"""One trial: the same numbers give the same result, and its options act."""

from dataclasses import replace

import pytest
import torch

from search_spaces.registry import SPACES
from workers.contracts.errors import InvalidDatasetError
from workers.contracts.loss_model import ENTRIES
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.data import MetaData
from workers.meta.trials.trial import Trial, Workshop, draw_task, run_trial

SPACE = SPACES["nas_bench_201"]
HEAVY = SPACE.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|")
(LIGHT,) = SPACE.cheapest()


def trial_of(shop: Workshop, arch=HEAVY, task: int = 0, number: int = 1) -> Trial:
    return run_trial(shop, draw_task(shop, task), task, number, arch)


def with_trials(shop: Workshop, **changes: object) -> Workshop:
    return replace(shop, trials=shop.trials.model_copy(update=changes))


def test_a_trial_is_the_same_whenever_it_is_made(shop: Workshop) -> None:
    assert trial_of(shop) == trial_of(shop)
    assert trial_of(shop).loss != trial_of(shop, task=1).loss


def test_a_trial_says_what_was_tried_on_what(shop: Workshop) -> None:
    trial = trial_of(shop)
    assert SPACE.parse(trial.architecture) == HEAVY
    assert tuple(trial.description) == ENTRIES
    assert trial.loss is not None
    assert trial.one_shot is not None
    assert 0 <= trial.accuracy <= 1


def test_a_trial_is_judged_on_held_out_images(shop: Workshop) -> None:
    raw = draw_task(shop, 0)
    others = replace(raw, query_labels=(raw.query_labels + 1) % raw.num_ways)
    one, other = (run_trial(shop, task, 0, 1, HEAVY) for task in (raw, others))
    assert one.loss != other.loss
    assert one.one_shot != other.one_shot


def test_training_lowers_the_loss(shop: Workshop) -> None:
    trials = [trial_of(with_trials(shop, num_steps=30, length="steps"), task=task) for task in range(3)]
    assert sum(trial.loss for trial in trials) < 0.9 * sum(trial.one_shot for trial in trials)


def test_fresh_weights_have_no_loss_before_training(shop: Workshop) -> None:
    fresh = trial_of(with_trials(shop, weights="fresh"))
    assert fresh.one_shot is None
    assert fresh.loss != trial_of(shop).loss


def test_in_equal_seconds_a_light_network_takes_more_steps(shop: Workshop) -> None:
    by_seconds = with_trials(shop, num_steps=10)
    assert trial_of(by_seconds, HEAVY).num_steps < 10 < trial_of(by_seconds, LIGHT).num_steps
    assert trial_of(with_trials(by_seconds, length="steps"), LIGHT).num_steps == 10


def test_tasks_take_lengths_in_turn(shop: Workshop) -> None:
    several = with_trials(shop, num_steps=8, num_steps_shares=(1.0, 0.25), length="steps")
    trials = [trial_of(several, task=task) for task in range(3)]
    assert [trial.num_steps for trial in trials] == [8, 2, 8]
    lengths = [trial.description["training_steps"] for trial in trials]
    assert lengths[0] - lengths[1] == pytest.approx(2.0)
    assert several.trials.fewest_steps == 2


def test_the_priors_weights_are_what_a_network_begins_with(shop: Workshop) -> None:
    loc = {name: value + 0.3 * torch.randn(value.shape) for name, value in shop.prior.loc.items()}
    other = replace(shop, prior=replace(shop.prior, loc=loc))
    assert trial_of(shop).one_shot != trial_of(other).one_shot


def test_without_classes_nothing_can_be_tried(config: MetaConfig, trials, prior, data: MetaData) -> None:
    with pytest.raises(InvalidDatasetError, match="nothing to try"):
        Workshop.build(config, trials, replace(data, meta_train=None), prior)
    with pytest.raises(InvalidDatasetError, match="too few classes"):
        Workshop.build(config.model_copy(update={"min_ways": 7, "max_ways": 8}), trials, data, prior)
