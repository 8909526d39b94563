from itertools import pairwise

import torch

from benchmarks.search.step_arms import Way, macro_of, noise_data, plan_of
from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from search_spaces.supernet import build_supernet
from workers.adapt.limits import Limits
from workers.adapt.race import THRIFTY_SHARES, race, thrifty_modes
from workers.adapt.sync import Group
from workers.priors.model import options_of, ruled_out, uniform_logits
from workers.training.cost import steps_in_equal_time

SPACE = SPACES["nas_bench_201"]
MACRO = Macro(num_channels=16, num_cells=1, num_classes=10, image_size=32)
MODE = SPACE.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|")


def logits() -> torch.Tensor:
    table = uniform_logits(SPACE).clone()
    for decision, choice in enumerate(MODE.choices):
        table[decision, choice] += 3.0
    return table


def test_thrifty_finalists_cost_at_most_their_share_of_the_mode() -> None:
    found = thrifty_modes(MODE, logits(), MACRO, Limits())
    macs = SPACE.cost(MODE, MACRO).macs
    assert len(found) == len(THRIFTY_SHARES)
    for arch, share in zip(found, THRIFTY_SHARES, strict=True):
        assert SPACE.cost(arch, MACRO).macs <= share * macs


def test_thrifty_finalists_keep_the_limits_and_are_absent_where_nothing_is_cheaper() -> None:
    smallest = SPACE.minimum_cost(MACRO)
    limits = Limits(max_params=smallest.params)
    assert all(
        SPACE.cost(arch, MACRO).params == smallest.params for arch in thrifty_modes(MODE, logits(), MACRO, limits)
    )
    (cheapest,) = SPACE.cheapest()
    assert thrifty_modes(cheapest, logits(), MACRO, Limits()) == []


def test_what_the_prior_rules_out_does_not_race() -> None:
    only = ruled_out(uniform_logits(SPACE), options_of([MODE]))
    assert thrifty_modes(MODE, only, MACRO, Limits()) == []


def test_all_race_for_equal_seconds() -> None:
    macro = macro_of("nas_bench_201", 8, num_channels=2, num_cells=1)
    data, (light,) = noise_data(8, torch.device("cpu")), SPACE.cheapest()
    plan = plan_of("nas_bench_201", macro, 4, Way(), data, 0).model_copy(update={"race_steps": 6, "race_s": 4.0})
    parameters = dict(build_supernet("nas_bench_201", macro).named_parameters())
    taken: list[int] = []
    race(
        {MODE: "mode", light: "light"},
        MODE,
        parameters,
        macro,
        data,
        plan,
        Group(),
        elapsed_s=lambda: 0.0,
        on_step=lambda step, _: taken.append(step),
    )
    steps = [last for last, following in pairwise([*taken, 1]) if following == 1]
    macs = [SPACE.cost(arch, macro).macs for arch in (light, MODE)]
    assert steps == [6, steps_in_equal_time(6, *macs)]
    assert steps[1] > 6
