import torch

from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from workers.adapt.limits import Limits
from workers.adapt.race import THRIFTY_SHARES, thrifty_modes
from workers.priors.model import options_of, ruled_out, uniform_logits

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
