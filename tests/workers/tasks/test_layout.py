"""From paths to classes and splits."""

import pytest

from workers.contracts.errors import InvalidDatasetError
from workers.tasks.layout import place_images


def placed(*paths: str) -> list[tuple[str | None, str, str]]:
    return [(image.split, image.class_name, image.path) for image in place_images(paths)]


@pytest.mark.parametrize("wrapper", ["", "data/", "my data/v1/final/", "cat/"])
def test_class_folders_may_lie_in_common_wrappers(wrapper: str) -> None:
    paths = [f"{wrapper}cat/1.png", f"{wrapper}cat/2.JPG", f"{wrapper}dog/1.webp"]

    assert placed(*paths) == [(None, "cat", paths[0]), (None, "cat", paths[1]), (None, "dog", paths[2])]


@pytest.mark.parametrize("wrapper", ["", "data/", "a/b/"])
@pytest.mark.parametrize(
    ("folder", "split"), [("val", "val"), ("Valid", "val"), ("validation", "val"), ("TEST", "test")]
)
def test_split_folders_are_recognized_by_name(wrapper: str, folder: str, split: str) -> None:
    found = placed(f"{wrapper}train/cat/1.png", f"{wrapper}{folder}/cat/1.png")

    assert {(image[0], image[1]) for image in found} == {("train", "cat"), (split, "cat")}


def test_a_lone_train_folder_is_a_split_and_not_a_wrapper() -> None:
    assert placed("train/cat/1.png", "train/dog/1.png")[0] == ("train", "cat", "train/cat/1.png")


def test_a_class_of_trains_is_a_class() -> None:
    found = placed("train/1.png", "bus/1.png", "car/1.png")

    assert {(image[0], image[1]) for image in found} == {(None, "train"), (None, "bus"), (None, "car")}


def test_the_order_is_that_of_the_paths_whatever_came_first() -> None:
    paths = ["b/2.png", "a/9.png", "b/1.png", "a/10.png"]

    assert [path for _, _, path in placed(*paths)] == sorted(paths) == [path for _, _, path in placed(*reversed(paths))]


def test_what_systems_leave_behind_and_other_files_are_ignored() -> None:
    found = placed(
        "data/a/1.png",
        "data/b/1.png",
        "__MACOSX/data/a/._1.png",
        "data/.DS_Store",
        "data/a/.hidden.png",
        ".cache/x/1.png",
        "data/a/Thumbs.db",
        "data/README.txt",
        "data/b/labels.csv",
        "notes/deep/er/still/todo.md",
    )

    assert [path for _, _, path in found] == ["data/a/1.png", "data/b/1.png"]


def test_two_spellings_of_an_accent_are_one_class() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"

    assert {image[1] for image in placed(f"{composed}/1.png", f"{decomposed}/2.png", "bar/1.png")} == {composed, "bar"}


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        ([], "holds no images"),
        (["a/readme.txt", ".b/1.png"], "holds no images"),
        (["1.png", "a/1.png"], r"1\.png lies outside of any class folder"),
        (["data/1.png", "data/a/1.png", "data/b/1.png"], "lies deeper than its class folder"),
        (["a/1.png", "a/x/1.png", "b/1.png"], r"a/x/1\.png lies deeper"),
        (["a/x/1.png", "b/y/1.png"], r"a/x/1\.png lies deeper"),
        (["train/a/x/1.png", "train/b/1.png"], r"train/a/x/1\.png lies deeper"),
        (["train/1.png", "test/1.png"], "in a split folder but in no class folder"),
        (["train/a/1.png", "test/1.png"], r"test/1\.png lies in a split folder but in no class folder"),
        (["train/a/1.png", "extra/a/1.png"], "the folder extra stands beside split folders"),
        (["train/a/1.png", "cat/1.png"], "the folder cat stands beside split folders"),
        (["val/a/1.png", "test/a/1.png"], "no train folder"),
        (["test/a/1.png", "test/b/1.png"], "no train folder"),
    ],
)
def test_misplaced_images_are_refused_by_name(paths: list[str], reason: str) -> None:
    with pytest.raises(InvalidDatasetError, match=reason):
        place_images(paths)
