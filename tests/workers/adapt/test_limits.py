from itertools import islice

import pytest
import torch

from search_spaces.architecture import Architecture
from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from workers.adapt.limits import Feasible, Limits
from workers.contracts.errors import LimitUnreachableError
from workers.priors.loss_model import draw_valid
from workers.priors.model import leaves_open, options_of, ruled_out, uniform_logits

MACRO = Macro(num_channels=16, num_cells=3, num_classes=10, image_size=32)


@pytest.fixture(params=sorted(SPACES))
def space_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_everything_that_is_drawn_within_limits_fits_them(space_name: str) -> None:
    space = SPACES[space_name]
    cheapest = space.cost(space.cheapest()[0], MACRO)
    limits = Limits(max_params=int(1.3 * cheapest.params), max_macs=int(1.3 * cheapest.macs))
    feasible = Feasible(space, MACRO, limits)
    tilted = feasible.tilt(uniform_logits(space), generator())
    found = feasible.sample(tilted, 5, generator())
    assert len(found) == len(set(found)) == 5
    for arch in [*found, *islice(feasible.paths(tilted, generator()), 5), feasible.mode(uniform_logits(space))]:
        cost = space.cost(arch, MACRO)
        assert cost.params <= limits.max_params
        assert cost.macs <= limits.max_macs


def test_without_limits_the_logits_are_left_alone_and_the_mode_is_the_spaces(space_name: str) -> None:
    space = SPACES[space_name]
    logits = uniform_logits(space)
    logits = logits + torch.randn(logits.shape, generator=generator()) * (logits == 0)
    feasible = Feasible(space, MACRO, Limits())
    assert torch.equal(feasible.tilt(logits, generator()), logits)
    assert feasible.mode(logits) == space.discretize(torch.log_softmax(logits, dim=-1).tolist())


def test_a_limit_just_met_by_the_smallest_architecture_leaves_one_of_that_cost(space_name: str) -> None:
    space = SPACES[space_name]
    smallest = space.minimum_cost(MACRO)
    feasible = Feasible(space, MACRO, Limits(max_params=smallest.params))
    logits = uniform_logits(space)
    tilted = feasible.tilt(logits, generator())
    for arch in (feasible.mode(logits), *feasible.sample(tilted, 1, generator())):
        assert space.cost(arch, MACRO).params == smallest.params


def test_limits_below_every_architecture_are_refused() -> None:
    space = SPACES["nas_bench_201"]
    with pytest.raises(LimitUnreachableError, match="at least"):
        Feasible(space, MACRO, Limits(max_params=1)).mode(uniform_logits(space))


def test_options_that_are_ruled_out_are_let_in_only_where_nothing_else_fits() -> None:
    space = SPACES["nas_bench_201"]
    light = space.parse("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|skip_connect~2|")
    heavy = space.parse("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|")
    possible = options_of([light, heavy])
    logits = ruled_out(uniform_logits(space), possible)

    def drawn(max_params: int) -> list[Architecture]:
        feasible = Feasible(space, MACRO, Limits(max_params=max_params))
        tilted = feasible.tilt(logits, generator())
        found = [feasible.mode(logits), *feasible.sample(tilted, 3, generator())]
        assert all(space.cost(arch, MACRO).params <= max_params for arch in found)
        return found

    least = space.cost(light, MACRO).params
    assert set(drawn(least)) == {light}
    below = drawn(least - 1)
    assert all(not all(possible[place, option] for place, option in enumerate(arch.choices)) for arch in below)


def test_below_all_that_a_prior_has_learned_the_mode_makes_most_of_the_limit(space_name: str) -> None:
    space = SPACES[space_name]
    costly = max(draw_valid(space, 100, generator()), key=lambda arch: space.cost(arch, MACRO).params)
    logits = ruled_out(uniform_logits(space), options_of([costly]))
    low, high = space.minimum_cost(MACRO).params, space.cost(costly, MACRO).params
    taken = []
    for share in (0.2, 0.4, 0.6, 0.8):
        limit = int(low + share * (high - low))
        arch = Feasible(space, MACRO, Limits(max_params=limit)).mode(logits)
        assert not leaves_open(logits, space, arch)
        taken.append((space.cost(arch, MACRO).params - low) / (limit - low))
    assert max(taken) <= 1
    assert min(taken) > 0.5, taken


def test_an_architecture_over_a_limit_gives_way_to_what_makes_most_of_it(space_name: str) -> None:
    space = SPACES[space_name]
    published = space.published()
    cost = space.cost(published, MACRO)
    assert Feasible(space, MACRO, Limits()).this_or_largest(published) == published
    assert Feasible(space, MACRO, Limits(max_macs=cost.macs)).this_or_largest(published) == published
    limits = Limits(max_macs=cost.macs - 1)
    instead = Feasible(space, MACRO, limits).this_or_largest(published)
    assert 0.8 * cost.macs < space.cost(instead, MACRO).macs < cost.macs
    least = space.minimum_cost(MACRO)
    with pytest.raises(LimitUnreachableError):
        Feasible(space, MACRO, Limits(max_params=least.params - 1)).this_or_largest(published)
