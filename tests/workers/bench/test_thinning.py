"""Fewer images, the same shares."""

from collections import Counter

from workers.bench.thinning import thinned


def test_every_group_keeps_its_share() -> None:
    groups = [("train", "a")] * 500 + [("train", "b")] * 250 + [("test", "a")] * 250

    kept = thinned(groups, 100)

    assert Counter(groups[position] for position in kept) == {groups[0]: 50, groups[500]: 25, groups[750]: 25}


def test_no_group_is_lost_and_the_largest_rests_get_what_is_over() -> None:
    groups = ["large"] * 995 + ["small"] * 5
    assert Counter(groups[position] for position in thinned(groups, 100)) == {"large": 99, "small": 1}

    thirds = ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    assert sorted(Counter(thirds[position] for position in thinned(thirds, 20)).values()) == [6, 7, 7]


def test_images_are_drawn_the_same_each_time_and_not_from_the_beginning() -> None:
    kept = thinned(["a"] * 1000, 100)

    assert kept == thinned(["a"] * 1000, 100)
    assert max(kept) > 800  # a hundred of the first eight hundred by chance: 2 in 10^10


def test_a_dataset_that_is_small_enough_stays_whole() -> None:
    assert thinned(["a", "b", "b"], 3) == {0, 1, 2}
