"""Which classes a prior may learn from, which judge it while it learns, and which it never meets."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from workers.contracts.errors import InvalidDatasetError

SplitPart = Literal["meta_train", "meta_validation", "meta_test"]
SPLIT_PARTS: Final[tuple[SplitPart, ...]] = ("meta_train", "meta_validation", "meta_test")
# Of a dataset whose parts nobody names: one class of so many is held out, where there are twice as many or more.
CLASSES_PER_HELD_OUT: Final = 5
MIN_CLASSES: Final = 2
MIN_IMAGES: Final = 2


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


def split_classes(
    classes: Sequence[str],
    num_images: Sequence[int],
    *,
    meta_validation: Sequence[str] | None,
    meta_test: Sequence[str] | None,
    seed: int,
    min_images: int = MIN_IMAGES,
    dataset: str = "",
) -> ClassSplit:
    """Return which of a dataset's classes are for what; each part in the order of `classes`.

    Where neither part is named, a fifth of the classes judges the prior while it learns, if there are ten or more: the
    first by the hash of seed and name, so that neither order nor other datasets change the draw. All others are learned
    from. Classes with fewer than `min_images` images are left out.

    Args:
        classes: Names.
        num_images: Of each class.
        meta_validation: Named by the user; None: not named.
        meta_test: Named by the user, never read; None: not named.
        seed: Of the run.
        min_images: That a class needs to stand in the support and in the query of a task.
        dataset: Its name, for messages.

    Raises:
        InvalidDatasetError: A class is unknown, named twice, or has too few images, or a part has too few classes.
    """
    usable = _usable(classes, num_images, min_images)
    named = (*(meta_validation or ()), *(meta_test or ()))
    _check_known(named, classes, dataset)
    _check_images(meta_validation or (), classes, num_images, min_images, dataset)
    held_out, never = set(meta_validation or ()), set(meta_test or ())
    if meta_validation is None and meta_test is None and len(usable) >= 2 * CLASSES_PER_HELD_OUT:
        drawn = sorted(usable, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
        held_out = set(drawn[: len(usable) // CLASSES_PER_HELD_OUT])
    learned = tuple(name for name in usable if name not in held_out | never)
    _check_number("meta_train", len(learned), dataset)
    if held_out:
        _check_number("meta_validation", len(held_out), dataset)
    return ClassSplit(
        meta_train=learned,
        meta_validation=tuple(name for name in classes if name in held_out),
        meta_test=tuple(name for name in classes if name in never),
    )


def held_out_classes(
    classes: Sequence[str],
    num_images: Sequence[int],
    *,
    meta_validation: Sequence[str] | None,
    min_images: int = MIN_IMAGES,
    dataset: str = "",
) -> tuple[str, ...]:
    """Return the classes that a comparison of priors judges by, in the order of `classes`.

    Args:
        classes: Names.
        num_images: Of each class.
        meta_validation: Named by the user; None: all that have `min_images` images.
        min_images: As in `split_classes`.
        dataset: Its name, for messages.

    Raises:
        InvalidDatasetError: As `split_classes`.
    """
    chosen = set(_usable(classes, num_images, min_images))
    if meta_validation is not None:
        _check_known(meta_validation, classes, dataset)
        _check_images(meta_validation, classes, num_images, min_images, dataset)
        chosen = set(meta_validation)
    _check_number("meta_validation", len(chosen), dataset)
    return tuple(name for name in classes if name in chosen)


def check_ways(num_classes: Sequence[int], min_ways: int, *, names: Sequence[str] = ()) -> None:
    """Refuse datasets with fewer classes to learn from than the smallest task has.

    Args:
        num_classes: Meta-train classes of each dataset.
        min_ways: Of the configuration; it acts only where some steps come after `joint_steps`.
        names: Of the datasets, for the message; empty: the message names none.

    Raises:
        InvalidDatasetError: A task keeps to one dataset, and one of them has too few classes for it.
    """
    smallest = min(num_classes)
    if smallest < min_ways:
        where = f" in the dataset {names[list(num_classes).index(smallest)]}" if names else ""
        raise InvalidDatasetError(
            f"too few classes for min_ways{where}",
            got=smallest,
            expected=f"at least {min_ways}",
            todo="Lower min_ways, or learn from more classes.",
        )


def _usable(classes: Sequence[str], num_images: Sequence[int], min_images: int) -> list[str]:
    return [name for name, number in zip(classes, num_images, strict=True) if number >= min_images]


def _check_known(named: Iterable[str], classes: Iterable[str], dataset: str) -> None:
    known, seen = set(classes), set[str]()
    for name in named:
        if name not in known:
            todo = "Name classes as the dataset does."
            raise InvalidDatasetError(f"{_called(dataset)} has no class {name}", todo=todo)
        if name in seen:
            expected = "each class once, in one part"
            raise InvalidDatasetError(f"the class {name} of {_called(dataset)} is named twice", expected=expected)
        seen.add(name)


def _check_images(
    named: Iterable[str], classes: Sequence[str], num_images: Sequence[int], min_images: int, dataset: str
) -> None:
    counts = dict(zip(classes, num_images, strict=True))
    for name in named:
        if counts[name] < min_images:
            raise InvalidDatasetError(
                f"the class {name} of {_called(dataset)} has too few images to judge by",
                got=counts[name],
                expected=f"at least {min_images}",
                todo="Leave it out of meta_validation.",
            )


def _check_number(part: SplitPart, number: int, dataset: str) -> None:
    if number < MIN_CLASSES:
        raise InvalidDatasetError(
            f"{_called(dataset)} has too few classes for {part}",
            got=number,
            expected=f"at least {MIN_CLASSES}",
            todo="Name other classes, or leave the dataset out.",
        )


def _called(dataset: str) -> str:
    return f"the dataset {dataset}".rstrip()


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
