"""Who learns from what."""

import numpy as np
import pytest
from numpy.typing import NDArray

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import InvalidDatasetError
from workers.tasks.images import SPLITS
from workers.tasks.split import Repeats, Split, split_dataset, without_repeats

LABELS = np.repeat(np.arange(4), [5, 20, 100, 7]).astype(np.int64)


def declared(*names: str) -> NDArray[np.int8]:
    """Splits in turn over the images of LABELS, so that each class has all of them."""
    return np.array([SPLITS.index(names[i % len(names)]) for i in range(len(LABELS))], dtype=np.int8)


def per_class(positions: NDArray[np.int64]) -> list[int]:
    return [int((LABELS[positions] == label).sum()) for label in range(4)]


def all_positions(split: Split) -> list[int]:
    return sorted(np.concatenate([split.train, split.query, split.test]).tolist())


@pytest.mark.parametrize("splits", [None, declared("train")])
def test_without_held_out_folders_every_class_is_cut_in_proportion(splits: NDArray[np.int8] | None) -> None:
    split = split_dataset(LABELS, splits, seed=3)

    assert per_class(split.query) == [1, 3, 15, 1]
    assert per_class(split.test) == [1, 3, 15, 1]
    assert per_class(split.train) == [3, 14, 70, 5]
    assert all_positions(split) == list(range(len(LABELS)))


def test_all_three_folders_are_kept() -> None:
    splits = declared("train", "train", "val", "test")

    split = split_dataset(LABELS, splits, seed=0)

    for name, positions in (("train", split.train), ("val", split.query), ("test", split.test)):
        assert positions.tolist() == np.flatnonzero(splits == SPLITS.index(name)).tolist()


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_a_single_held_out_folder_is_the_test_and_the_query_is_cut_from_train(held_out: str) -> None:
    splits = declared("train", held_out)

    split = split_dataset(LABELS, splits, seed=0)

    assert split.test.tolist() == np.flatnonzero(splits != 0).tolist()
    assert (splits[split.query] == 0).all()
    assert per_class(split.query) == [1, 2, 8, 1]  # of 3, 10, 50 and 4 or 3
    assert all_positions(split) == list(range(len(LABELS)))


def test_the_seed_alone_fixes_the_cuts() -> None:
    first, again, other = (split_dataset(LABELS, None, seed=seed) for seed in (1, 1, 2))

    assert (first.train == again.train).all()
    assert (first.query == again.query).all()
    assert (first.test == again.test).all()
    assert not np.array_equal(first.test, other.test)


@pytest.mark.parametrize("fractions", [(0.1, 0.3), (0.5, 0.45), (0.01, 0.98)])
def test_fractions_are_kept_and_every_part_has_every_class(fractions: tuple[float, float]) -> None:
    query, test = fractions

    split = split_dataset(LABELS, None, seed=0, query_fraction=query, test_fraction=test)

    assert min(per_class(split.train) + per_class(split.query) + per_class(split.test)) >= 1
    assert per_class(split.query)[2] == round(100 * query)
    assert per_class(split.test)[2] == round(100 * test)
    assert all_positions(split) == list(range(len(LABELS)))


def test_three_images_give_one_to_each_part() -> None:
    split = split_dataset(np.array([0, 0, 0, 1, 1, 1]), None, seed=0, query_fraction=0.45, test_fraction=0.45)

    assert [len(part) for part in (split.train, split.query, split.test)] == [2, 2, 2]


def test_a_class_too_small_to_cut_from_is_refused() -> None:
    with pytest.raises(InvalidDatasetError, match=r"label 1\) has too few training images.*got 2; expected at least 3"):
        split_dataset(np.array([0, 0, 0, 1, 1]), None, seed=0)
    with pytest.raises(InvalidDatasetError, match=r"label 1\) has too few training images.*got 1; expected at least 2"):
        split_dataset(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 2], np.int8), seed=0)


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(InvalidDatasetError, match="no training images"):
        split_dataset(LABELS, declared("test"), seed=0)


@pytest.mark.parametrize(("query", "test"), [(0.0, 0.1), (0.1, 0.0), (0.5, 0.5), (-0.1, 0.1)])
def test_impossible_fractions_are_refused(query: float, test: float) -> None:
    with pytest.raises(InvalidOptionError, match="fractions"):
        split_dataset(LABELS, None, seed=0, query_fraction=query, test_fraction=test)


def numbered(*values: int) -> NDArray[np.uint8]:
    """One image of 2 x 2 pixels for each value; equal values, equal images."""
    return np.repeat(np.array(values, dtype=np.uint8), 12).reshape(-1, 2, 2, 3)


SPLIT = Split(train=np.array([0, 1, 2]), query=np.array([3, 4]), test=np.array([5, 6, 7]))


def test_held_out_images_that_repeat_one_to_learn_from_are_left_out() -> None:
    images = numbered(1, 2, 3, 2, 4, 5, 1, 4)

    split, repeats = without_repeats(SPLIT, images, keep_test=False)

    assert split.train.tolist() == [0, 1, 2]
    assert split.query.tolist() == [4]
    assert split.test.tolist() == [5, 7]  # one that repeats a held-out image was not learned from
    assert repeats == Repeats(left_out=1)


def test_test_images_that_the_dataset_declares_stay_and_are_counted() -> None:
    split, repeats = without_repeats(SPLIT, numbered(1, 2, 3, 2, 4, 5, 1, 3), keep_test=True)

    assert split.test.tolist() == [5, 6, 7]
    assert repeats == Repeats(in_test=2)


def test_no_part_is_left_empty() -> None:
    split, repeats = without_repeats(SPLIT, numbered(1, 1, 1, 1, 1, 1, 1, 1), keep_test=False)

    assert split.query.tolist() == [3, 4]
    assert split.test.tolist() == [5, 6, 7]
    assert repeats == Repeats(in_test=3)
