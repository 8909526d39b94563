"""Which classes a prior may learn from, which judge it while it learns, and which it never meets."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from workers.contracts.errors import InvalidDatasetError

SplitPart = Literal["meta_train", "meta_validation", "meta_test"]
SPLIT_PARTS: Final[tuple[SplitPart, ...]] = ("meta_train", "meta_validation", "meta_test")


@dataclass(frozen=True, kw_only=True)
class ClassSplit:
    """Names of classes by part.

    Raises:
        InvalidDatasetError: A class stands in two parts, or `meta_train` is empty.
    """

    meta_train: tuple[str, ...]
    meta_validation: tuple[str, ...] = ()
    meta_test: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for name in (*self.meta_train, *self.meta_validation, *self.meta_test):
            if name in seen:
                expected = "each class once, in one part"
                raise InvalidDatasetError("the class split names a class twice", got=name, expected=expected)
            seen.add(name)
        if not self.meta_train:
            raise InvalidDatasetError("the class split has no meta_train classes", todo="Name at least two.")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the split that a JSON file holds: lists of class names under the names of the parts.

        Raises:
            InvalidDatasetError: The file cannot be read, or holds anything else.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidDatasetError(f"the class split {path} cannot be read ({error})") from error
        is_split = isinstance(document, dict) and "meta_train" in document and document.keys() <= set(SPLIT_PARTS)
        if not is_split or not all(map(_is_list_of_names, document.values())):
            expected = f"an object with lists of class names under {', '.join(SPLIT_PARTS)}"
            raise InvalidDatasetError(f"the file {path} is no class split", expected=expected)
        return cls(**{part: tuple(names) for part, names in document.items()})


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
