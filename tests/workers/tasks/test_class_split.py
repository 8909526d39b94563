"""Which classes a prior may meet."""

import json
from pathlib import Path

import pytest

from workers.contracts.errors import InvalidDatasetError
from workers.tasks.class_split import ClassSplit


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
