"""Which images a network learns from, which choose among candidates, and which only report. Pure, torch-free."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import InvalidDatasetError
from workers.tasks.images import SPLITS
from workers.tasks.split_sizes import cut_sizes


@dataclass(frozen=True, kw_only=True)
class Split:
    """Positions of a dataset's images, each int64, ascending; no image is in two parts.

    Attributes:
        train: Weights learn from these.
        query: Architectures are compared on these.
        test: Only the report's numbers come from these.
    """

    train: NDArray[np.int64]
    query: NDArray[np.int64]
    test: NDArray[np.int64]


def split_dataset(
    labels: NDArray[np.int64],
    declared_splits: NDArray[np.int8] | None,
    seed: int,
    *,
    query_fraction: float = 0.15,
    test_fraction: float = 0.15,
) -> Split:
    """Return a split, stratified by class wherever it has to be made.

    What the dataset declares is kept; what is missing is cut from `train`:

    | declared          | train | query    | test         |
    |-------------------|-------|----------|--------------|
    | nothing, or train | rest  | a part   | a part       |
    | train, test       | rest  | a part   | test         |
    | train, val        | rest  | a part   | val          |
    | train, val, test  | train | val      | test         |

    So a single held-out folder, whatever its name, is what the report is about, and nothing chooses by it.
    How much of a class a cut takes: `cut_sizes`.

    Args:
        labels: int64 [N].
        declared_splits: int8 [N], positions in `SPLITS`; None: nothing is declared.
        seed: Fixes the cuts.
        query_fraction: Of `train`, 0 to 1, where the query is cut.
        test_fraction: Of `train`, 0 to 1, where the test is cut.

    Raises:
        InvalidDatasetError: A class has too few training images to cut from, or none are declared.
        InvalidOptionError: The fractions leave nothing to train on.
    """
    if min(query_fraction, test_fraction) <= 0 or query_fraction + test_fraction >= 1:
        got = (query_fraction, test_fraction)
        raise InvalidOptionError("the query and test fractions must be positive and below 1 together", got=got)
    codes = np.zeros(len(labels), dtype=np.int8) if declared_splits is None else declared_splits
    train, val, test = (np.flatnonzero(codes == code).astype(np.int64) for code in range(len(SPLITS)))
    if not train.size:
        raise InvalidDatasetError("the dataset declares no training images", todo="Add a train folder.")
    generator = np.random.default_rng(seed)
    if val.size and test.size:
        return Split(train=train, query=val, test=test)
    if val.size or test.size:
        train, query = _cut(labels, train, (query_fraction,), generator)
        return Split(train=train, query=query, test=val if val.size else test)
    train, query, test = _cut(labels, train, (query_fraction, test_fraction), generator)
    return Split(train=train, query=query, test=test)


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """Test images that are equal, pixel by pixel, to one to learn from.

    Attributes:
        left_out: So many are test images no more.
        in_test: So many still are.
    """

    left_out: int = 0
    in_test: int = 0


NO_REPEATS: Final = Repeats()


def without_repeats(split: Split, images: NDArray[np.uint8], *, keep_test: bool) -> tuple[Split, Repeats]:
    """Return a split without held-out images that are equal to one to learn from: it tells nothing of others.

    What would leave a part empty is kept.

    Args:
        split: Of the images.
        images: uint8 [N, R, R, 3].
        keep_test: Whether such test images stay: the dataset declares them.
    """
    learned = {images[position].tobytes() for position in split.train}

    def is_new(part: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.fromiter((images[position].tobytes() not in learned for position in part), np.bool_, len(part))

    new_query, new_test = is_new(split.query), is_new(split.test)
    query = split.query[new_query] if new_query.any() else split.query
    num_repeats = int((~new_test).sum())
    if keep_test or not new_test.any():
        return replace(split, query=query), Repeats(in_test=num_repeats)
    return replace(split, query=query, test=split.test[new_test]), Repeats(left_out=num_repeats)


def _cut(
    labels: NDArray[np.int64],
    positions: NDArray[np.int64],
    fractions: tuple[float, ...],
    generator: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """Return what is left of `positions`, then one part for each fraction; each part has images of every class."""
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(len(fractions) + 1)]
    for label in np.unique(labels[positions]):
        members = generator.permutation(positions[labels[positions] == label])
        if len(members) <= len(fractions):
            raise InvalidDatasetError(
                f"a class (label {label}) has too few training images to hold some out",
                got=len(members),
                expected=f"at least {len(fractions) + 1}",
                todo="Add images of that class, or leave it out.",
            )
        *cuts, rest = np.split(members, np.cumsum(cut_sizes(len(members), fractions)))
        for part, cut in zip(parts, (rest, *cuts), strict=True):
            part.append(cut)
    return [np.sort(np.concatenate(part)) for part in parts]
