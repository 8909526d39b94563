"""What holds for every search space."""

import json
import re

import pytest

from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidArchitectureError, InvalidOptionError, UnknownNameError, lookup
from search_spaces.registry import SPACES
from search_spaces.spec import Cost, Macro


def small_macro(space, **changes):
    return Macro(**{"num_channels": 4, "num_cells": 3, "num_classes": 5, "image_size": 16, **changes})


def scores_of(space, arch):
    return [[float(o == choice) for o in range(space.num_options)] for choice in arch.choices]


def test_registry_key_is_the_name_of_the_space(space):
    assert SPACES[space.name] is space
    assert re.fullmatch(r"[a-z0-9_]+", space.name)
    with pytest.raises(UnknownNameError, match=space.name):
        lookup(SPACES, "nowhere", kind="search space")


def test_every_valid_architecture_survives_its_string_form(space, draw_architectures):
    for arch in draw_architectures(space, 100):
        text = space.format(arch)
        assert "\n" not in text
        assert " " not in text
        assert space.parse(text) == arch


def test_every_valid_architecture_survives_its_json_form(space, draw_architectures):
    for arch in draw_architectures(space, 100):
        document = json.loads(json.dumps(space.to_json(arch)))
        assert document["space"] == space.name
        assert space.parse(document) == arch


def test_the_published_architecture_is_valid_connected_and_neither_the_cheapest_nor_the_dearest(
    space, draw_architectures
):
    published, macro = space.published(), small_macro(space)
    assert space.connected(published) == published
    drawn = [space.cost(arch, macro).params for arch in draw_architectures(space, 100)]
    assert space.minimum_cost(macro).params < space.cost(published, macro).params < max(drawn)


def test_mask_marks_exactly_the_options_that_exist(space):
    assert len(space.decisions) == space.num_decisions == len(space.option_mask)
    assert len({decision.name for decision in space.decisions}) == space.num_decisions
    for decision, row in zip(space.decisions, space.option_mask, strict=True):
        assert len(row) == space.num_options
        assert sum(row) == len(decision.options) == len(set(decision.options))
        assert row == tuple(sorted(row, reverse=True))
    assert all(space.option_mask[-1])


def test_discretize_picks_a_one_hot_back(space, draw_architectures):
    for arch in draw_architectures(space, 30):
        assert space.discretize(scores_of(space, arch)) == arch


def test_discretize_ignores_padding_and_returns_valid_architectures(space, draw_architectures):
    [arch] = draw_architectures(space, 1)
    padded = [
        [score if real else 100.0 for score, real in zip(row, mask, strict=True)]
        for row, mask in zip(scores_of(space, arch), space.option_mask, strict=True)
    ]
    assert space.discretize(padded) == arch
    first_everywhere = [[float(o == 0) for o in range(space.num_options)] for _ in range(space.num_decisions)]
    assert space.is_valid(space.discretize(first_everywhere))


def test_discretize_refuses_tables_of_another_shape_and_nan(space):
    table = [[0.0] * space.num_options for _ in range(space.num_decisions)]
    with pytest.raises(InvalidOptionError, match="shape"):
        space.discretize(table[1:])
    with pytest.raises(InvalidOptionError, match="shape"):
        space.discretize([row[1:] for row in table])
    table[0][0] = float("nan")
    with pytest.raises(InvalidOptionError, match="NaN"):
        space.discretize(table)


def test_no_architecture_costs_less_than_the_minimum(space, draw_architectures):
    macro = small_macro(space)
    least = space.minimum_cost(macro)
    costs = [space.cost(arch, macro) for arch in draw_architectures(space, 200)]
    assert least.params <= min(cost.params for cost in costs)
    assert least.macs <= min(cost.macs for cost in costs)
    assert least.params > 0


def test_cost_grows_with_channels_and_only_macs_with_the_image(space, draw_architectures):
    [arch] = draw_architectures(space, 1)
    small, wide = (space.cost(arch, small_macro(space, num_channels=c)) for c in (4, 8))
    large = space.cost(arch, small_macro(space, image_size=32))
    assert wide.params > small.params
    assert wide.macs > small.macs
    assert large.params == small.params
    assert large.macs > small.macs


def test_default_macro_fits_the_data_and_the_space(space, draw_architectures):
    macro = space.default_macro(num_classes=7, image_size=16)
    assert (macro.num_classes, macro.image_size) == (7, 16)
    assert isinstance(space.cost(draw_architectures(space, 1)[0], macro), Cost)


def test_drawings_name_every_live_op(space, draw_architectures):
    for arch in draw_architectures(space, 10):
        text, svg = space.draw_text(arch), space.draw_svg(arch)
        assert max(len(line) for line in text.splitlines()) <= 80
        assert svg.startswith("<svg")
        words = set(re.findall(r"[a-z]+(?:_[a-z0-9]+)+", text))
        assert words
        assert all(op in svg for op in words)


def test_an_architecture_of_another_space_is_refused(space, draw_architectures):
    [arch] = draw_architectures(space, 1)
    stranger = Architecture("elsewhere", arch.choices)
    for use in (space.format, space.to_json, space.is_valid, space.draw_text, space.draw_svg):
        with pytest.raises(InvalidArchitectureError, match="elsewhere"):
            use(stranger)
    with pytest.raises(InvalidArchitectureError, match="elsewhere"):
        space.parse({**space.to_json(arch), "space": "elsewhere"})
    with pytest.raises(InvalidArchitectureError, match="space of the architecture"):
        space.parse({key: value for key, value in space.to_json(arch).items() if key != "space"})


def test_choices_out_of_range_are_refused_with_the_decision_named(space, draw_architectures):
    [arch] = draw_architectures(space, 1)
    first = space.decisions[0].name
    for choice in (-1, len(space.decisions[0].options)):
        with pytest.raises(InvalidArchitectureError, match=first):
            space.format(Architecture(space.name, (choice, *arch.choices[1:])))
    with pytest.raises(InvalidArchitectureError, match="number of choices"):
        space.format(Architecture(space.name, arch.choices[1:]))


@pytest.mark.parametrize(
    "text", ["", "|", "x", "|nor_conv_3x3~0|", "normal:|;reduce:|", "{}", "+++", "normal:;reduce:"]
)
def test_rubbish_is_no_architecture(space, text):
    with pytest.raises(InvalidArchitectureError, match="expected"):
        space.parse(text)


def test_json_with_other_keys_is_refused(space, draw_architectures):
    document = space.to_json(draw_architectures(space, 1)[0])
    with pytest.raises(InvalidArchitectureError, match="keys"):
        space.parse({**document, "extra": 1})
    for key in set(document) - {"space"}:
        with pytest.raises(InvalidArchitectureError):
            space.parse({**document, key: None})


def test_an_unknown_op_is_named(space, draw_architectures):
    text = space.format(draw_architectures(space, 1)[0])
    op = re.search(r"[a-z]+(_[a-z0-9]+)+", text).group()
    with pytest.raises(InvalidArchitectureError, match="conv_9x9"):
        space.parse(text.replace(op, "conv_9x9"))


@pytest.mark.parametrize("name", ["darts", "nas_bench_201"])
def test_a_predecessor_out_of_range_is_named(name, draw_architectures):
    space = SPACES[name]
    text = space.format(draw_architectures(space, 1)[0])
    with pytest.raises(InvalidArchitectureError, match="predecessor"):
        space.parse(re.sub(r"~\d", "~9", text, count=1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_channels", 0),
        ("num_cells", 0),
        ("num_classes", 1),
        ("image_size", 7),
        ("image_channels", 0),
        ("skeleton", "x"),
    ],
)
def test_a_macro_out_of_range_is_refused(field, value):
    valid = {"num_channels": 4, "num_cells": 3, "num_classes": 5, "image_size": 16}
    with pytest.raises(InvalidOptionError, match=field):
        Macro(**{**valid, field: value})


def test_without_dead_ops_an_architecture_is_the_same_network(space, draw_architectures):
    for arch in draw_architectures(space, 200):
        connected = space.connected(arch)
        assert space.signature(connected) == space.signature(arch)
        assert space.connected(connected) == connected
        differing = zip(arch.choices, connected.choices, strict=True)
        assert {new for old, new in differing if new != old} <= {0}


def test_architectures_of_one_signature_cost_the_same_and_are_as_deep(space, draw_architectures):
    macro = small_macro(space)
    known = {}
    for arch in draw_architectures(space, 300):
        told = (space.cost(arch, macro), space.depth(arch))
        assert known.setdefault(space.signature(arch), told) == told
        assert space.signature(space.parse(space.format(arch))) == space.signature(arch)
    assert len(known) > 100
