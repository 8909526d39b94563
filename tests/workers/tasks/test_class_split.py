"""Which classes a prior may meet."""

import json
from pathlib import Path

import pytest

from workers.contracts.errors import InvalidDatasetError
from workers.tasks.class_split import ClassSplit, check_ways, held_out_classes, split_classes


def test_a_file_holds_names_by_part(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"meta_train": ["größe", "b"], "meta_test": ["c"]}), encoding="utf-8")

    assert ClassSplit.read(path) == ClassSplit(meta_train=("größe", "b"), meta_test=("c",))


@pytest.mark.parametrize(
    "parts",
    [
        {"meta_train": ("a", "b"), "meta_test": ("b",)},
        {"meta_train": ("a", "a")},
        {"meta_train": ("c",), "meta_validation": ("a",), "meta_test": ("a",)},
    ],
)
def test_a_class_in_two_places_is_refused(parts: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(InvalidDatasetError, match="names a class twice"):
        ClassSplit(**parts)


def test_a_split_without_training_classes_is_refused() -> None:
    with pytest.raises(InvalidDatasetError, match="no meta_train classes"):
        ClassSplit(meta_train=())


@pytest.mark.parametrize(
    "text",
    [
        '{"meta_train": ["a"]',
        "[]",
        "{}",
        '{"meta_train": "ab"}',
        '{"meta_train": [1]}',
        '{"meta_train": ["a"], "other": []}',
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)

    with pytest.raises(InvalidDatasetError, match=r"class split"):
        ClassSplit.read(tmp_path / "split.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDatasetError, match="cannot be read"):
        ClassSplit.read(tmp_path / "nothing.json")


def letters(number: int) -> tuple[str, ...]:
    return tuple(chr(ord("a") + position) for position in range(number))


def split(number: int, seed: int = 0, **named: tuple[str, ...] | None) -> ClassSplit:
    parts = {"meta_validation": None, "meta_test": None, **named}
    return split_classes(letters(number), [9] * number, seed=seed, **parts)


@pytest.mark.parametrize(("number", "held_out"), [(2, 0), (9, 0), (10, 2), (14, 2), (15, 3), (26, 5)])
def test_a_fifth_is_held_out_where_there_are_ten_classes(number: int, held_out: int) -> None:
    made = split(number)

    assert len(made.meta_validation) == held_out
    assert made.meta_test == ()
    assert sorted(made.meta_train + made.meta_validation) == list(letters(number))


def test_the_seed_draws_what_is_held_out_and_the_order_of_classes_does_not() -> None:
    backwards = split_classes(letters(20)[::-1], [9] * 20, meta_validation=None, meta_test=None, seed=3)

    assert set(split(20, seed=3).meta_validation) == set(backwards.meta_validation)
    assert split(20, seed=3) == split(20, seed=3)
    # 4 of 20: all of 40 seeds alike would be a draw that ignores them; each class comes up among 160 draws.
    drawn = [split(20, seed=seed).meta_validation for seed in range(40)]
    assert len(set(drawn)) > 30
    assert {name for names in drawn for name in names} == set(letters(20))


def test_parts_keep_the_order_of_classes() -> None:
    made = split(6, meta_validation=("e", "b"), meta_test=("f", "a"))

    assert made == ClassSplit(meta_train=("c", "d"), meta_validation=("b", "e"), meta_test=("a", "f"))


@pytest.mark.parametrize(
    "named", [{"meta_test": ("a",)}, {"meta_validation": ()}, {"meta_validation": (), "meta_test": ()}]
)
def test_nothing_is_drawn_once_a_part_is_named(named: dict[str, tuple[str, ...]]) -> None:
    assert split(20, **named).meta_validation == ()


def test_classes_with_too_few_images_are_left_out() -> None:
    counts = [1, *[9] * 10]
    for seed in range(20):
        made = split_classes(letters(11), counts, meta_validation=None, meta_test=None, seed=seed)
        assert "a" not in made.meta_train + made.meta_validation
        assert len(made.meta_train + made.meta_validation) == 10
    bounded = split_classes(letters(3), [4, 5, 6], meta_validation=None, meta_test=None, seed=0, min_images=5)
    assert bounded.meta_train == ("b", "c")
    # Ten classes, one of them of no use: nine are too few to hold some out.
    assert split_classes(letters(10), counts[:10], meta_validation=None, meta_test=None, seed=0).meta_validation == ()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"meta_validation": ("a", "x")}, "the dataset birds has no class x"),
        ({"meta_test": ("x",)}, "the dataset birds has no class x"),
        ({"meta_validation": ("b", "c"), "meta_test": ("c",)}, "class c of the dataset birds is named twice"),
        ({"meta_validation": ("b", "c", "b")}, "class b of the dataset birds is named twice"),
        ({"meta_validation": ("a", "b")}, "class a of the dataset birds has too few images to judge by: got 1"),
        ({"meta_validation": ("b",)}, "the dataset birds has too few classes for meta_validation: got 1"),
        ({"meta_test": ("b", "c", "d")}, "the dataset birds has too few classes for meta_train: got 1"),
    ],
)
def test_names_that_make_no_split_are_refused(named: dict[str, tuple[str, ...]], message: str) -> None:
    parts = {"meta_validation": None, "meta_test": None, **named}
    with pytest.raises(InvalidDatasetError, match=message):
        split_classes(letters(5), [1, 9, 9, 9, 9], seed=0, dataset="birds", **parts)


def test_a_class_that_is_never_read_may_have_too_few_images() -> None:
    made = split_classes(letters(4), [1, 9, 9, 9], meta_validation=None, meta_test=("a",), seed=0)

    assert made == ClassSplit(meta_train=("b", "c", "d"), meta_test=("a",))


def test_a_comparison_judges_by_the_classes_named_or_by_all_that_have_images() -> None:
    counts = [1, 9, 9, 9]

    assert held_out_classes(letters(4), counts, meta_validation=None) == ("b", "c", "d")
    assert held_out_classes(letters(4), counts, meta_validation=("d", "b")) == ("b", "d")
    for named, message in (
        (("x", "b"), "has no class x"),
        (("a", "b"), "class a of the dataset has too few images"),
        (("b", "b"), "named twice"),
        (("b",), "the dataset has too few classes for meta_validation: got 1"),
    ):
        with pytest.raises(InvalidDatasetError, match=message):
            held_out_classes(letters(4), counts, meta_validation=named)


def test_the_smallest_dataset_must_have_as_many_classes_as_the_smallest_task() -> None:
    check_ways([5, 9], 5)
    with pytest.raises(InvalidDatasetError, match="too few classes for min_ways: got 4; expected at least 5"):
        check_ways([9, 4], 5)
    with pytest.raises(InvalidDatasetError, match="too few classes for min_ways in the dataset b: got 4"):
        check_ways([9, 4, 6], 5, names=["a", "b", "c"])
