"""Cells in the table's notation, their cost in the benchmark's skeleton, and caps."""

import random

import pytest

from benchmarks.nas_bench_201.cells import (
    MACRO,
    SPACE,
    cap_of,
    cell_of,
    cells_within,
    costs,
    digits_of,
    most_params,
    shuffled_within,
)
from search_spaces.errors import InvalidArchitectureError, InvalidOptionError


@pytest.mark.parametrize(
    ("digits", "text"),
    [
        # Number 0 of the benchmark, as its README prints it.
        (
            "421211",
            "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
        ),
        # Each edge has another op than its neighbors: the order of edges is 0-1, 0-2, 1-2, 0-3, 1-3, 2-3.
        ("341203", "|nor_conv_3x3~0|+|avg_pool_3x3~0|skip_connect~1|+|nor_conv_1x1~0|none~1|nor_conv_3x3~2|"),
    ],
)
def test_digits_are_the_ops_of_edges_in_the_spaces_order(digits, text) -> None:
    assert SPACE.format(cell_of(digits)) == text
    assert digits_of(SPACE.parse(text)) == digits


@pytest.mark.parametrize("digits", ["", "42121", "4212111", "521211", "42121x", "421 11"])
def test_other_texts_are_no_cells(digits) -> None:
    with pytest.raises(InvalidArchitectureError, match="digits of a cell"):
        cell_of(digits)


def test_costs_are_those_of_the_space() -> None:
    assert len(costs()) == SPACE.num_architectures == 15_284
    for cell in random.Random(0).sample(list(costs()), 200):
        assert costs()[cell] == SPACE.cost(cell, MACRO)


def test_more_macs_are_more_parameters() -> None:
    ordered = sorted({(cost.macs, cost.params) for cost in costs().values()})

    assert len(ordered) == len({macs for macs, _ in ordered})
    assert [params for _, params in ordered] == sorted(params for _, params in ordered)


def test_a_cap_is_a_share_of_the_largest_network() -> None:
    largest = costs()[cell_of("333333")].macs

    assert cap_of(100).max_macs == largest
    assert cap_of(25).max_macs == largest // 4
    assert cap_of(25).name == "25%"
    assert len(cells_within(cap_of(100).max_macs)) == 15_284


def test_cells_within_a_cap_are_all_that_cost_no_more() -> None:
    limit = cap_of(10).max_macs
    within = set(cells_within(limit))

    assert within == {cell for cell, cost in costs().items() if cost.macs <= limit}
    assert cell_of("333333") not in within
    assert cell_of("000100") in within


@pytest.mark.parametrize("percent", [0, 3, 101])
def test_a_cap_that_admits_no_cell_or_means_nothing_is_refused(percent) -> None:
    with pytest.raises(InvalidOptionError, match=r"3\.5 to 100"):
        cap_of(percent)


def test_a_seed_orders_the_cells() -> None:
    limit = cap_of(10).max_macs

    assert shuffled_within(limit, 0) == shuffled_within(limit, 0)
    assert shuffled_within(limit, 0) != shuffled_within(limit, 1)
    assert sorted(shuffled_within(limit, 0), key=digits_of) == cells_within(limit)


def test_counting_answers_with_all_cells_that_tie() -> None:
    assert most_params(cap_of(100).max_macs) == [cell_of("333333")]
    tied = most_params(cap_of(25).max_macs)
    assert len(tied) > 1
    assert {costs()[cell] for cell in tied} == {
        max((costs()[cell] for cell in cells_within(cap_of(25).max_macs)), key=lambda cost: cost.params)
    }
