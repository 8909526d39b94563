"""What people are told of a dataset: duplicates, near-empty classes, the split to come."""

import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from workers.tasks.archive import check_archive
from workers.tasks.findings import NUM_PAIRS
from workers.tasks.images import SPLITS
from workers.tasks.limits import ArchiveLimits
from workers.tasks.split import split_dataset
from workers.tasks.split_sizes import HELD_OUT_SHARE, query_fraction, split_sizes

ZipOf = Callable[[dict[str, bytes]], Path]
ClassFiles = Callable[..., dict[str, bytes]]
Png = Callable[..., bytes]

# Of CRC-32, as bits in the order of a file: adding it to a file's bytes leaves the checksum as it is.
POLYNOMIAL = (0xEDB88320 << 1 | 1).to_bytes(5, "little")


def test_nothing_is_found_where_all_files_differ(zip_of: ZipOf, class_files: ClassFiles) -> None:
    findings = check_archive(zip_of(class_files("a", "b", each=10)), ArchiveLimits()).findings

    assert findings.num_duplicates == findings.across_classes == findings.across_splits == 0
    assert findings.duplicates == ()
    assert findings.near_empty == {}


def test_files_of_the_same_bytes_are_counted_and_the_pairs_across_classes_come_first(
    zip_of: ZipOf, class_files: ClassFiles
) -> None:
    files = class_files("a", "b")
    files["a/7.png"] = files["a/8.png"] = files["a/0.png"]
    files["b/copy.png"] = files["a/1.png"]

    findings = check_archive(zip_of(files), ArchiveLimits()).findings

    assert findings.num_duplicates == 3
    assert findings.across_classes == 1
    assert findings.across_splits == 0
    assert findings.duplicates == (("a/1.png", "b/copy.png"), ("a/0.png", "a/7.png"), ("a/0.png", "a/8.png"))


def test_a_test_image_that_is_learned_from_is_found(zip_of: ZipOf, class_files: ClassFiles) -> None:
    files = class_files("train/a", "train/b") | class_files("test/a")

    findings = check_archive(zip_of(files), ArchiveLimits()).findings

    assert findings.across_splits == findings.num_duplicates == 6  # test/a comes first and has the numbers of train/a
    assert findings.across_classes == 0
    assert findings.duplicates[0] == ("test/a/0.png", "train/a/0.png")


def test_only_the_first_pairs_are_named(zip_of: ZipOf, png: Png) -> None:
    files = {f"{name}/{n}.png": png(0) for name in "ab" for n in range(NUM_PAIRS)}

    findings = check_archive(zip_of(files), ArchiveLimits()).findings

    assert findings.num_duplicates == 2 * NUM_PAIRS - 1
    assert len(findings.duplicates) == NUM_PAIRS


def test_files_of_one_size_and_checksum_with_other_bytes_are_no_duplicates(zip_of: ZipOf, png: Png) -> None:
    files = {f"{name}/{n}.png": png(10 * (name == "b") + n) for name in "ab" for n in range(6)}
    # What follows an image's end is not looked at; these eight bytes make two files of one size and one CRC-32.
    image = png(99)
    files |= {"a/x.png": image + bytes(8), "a/y.png": image + bytes([*POLYNOMIAL, 0, 0, 0])}
    assert zlib.crc32(files["a/x.png"]) == zlib.crc32(files["a/y.png"])

    assert check_archive(zip_of(files), ArchiveLimits()).findings.num_duplicates == 0


def test_unreadable_images_are_no_duplicates(zip_of: ZipOf, class_files: ClassFiles) -> None:
    files = class_files("a", "b", each=100) | {"a/x.png": b"no image", "b/x.png": b"no image"}

    assert check_archive(zip_of(files), ArchiveLimits()).findings.num_duplicates == 0


def test_classes_of_few_images_are_named(zip_of: ZipOf, class_files: ClassFiles) -> None:
    files = class_files("a", each=9) | class_files("b", "c", each=10)

    assert check_archive(zip_of(files), ArchiveLimits()).findings.near_empty == {"a": 9}


@pytest.mark.parametrize(
    "folders",
    [("",), ("train/",), ("train/", "test/"), ("train/", "val/"), ("train/", "val/", "test/")],
    ids=lambda folders: "+".join(folders) or "none",
)
def test_the_suggested_split_is_the_one_that_an_adaptation_makes(
    zip_of: ZipOf, class_files: ClassFiles, folders: tuple[str, ...]
) -> None:
    files: dict[str, bytes] = {}
    for folder in folders:
        files |= class_files(f"{folder}a", each=5) | class_files(f"{folder}b", f"{folder}c", each=23)
    placed = [name.split("/") for name in sorted(files)]
    labels = np.array(["abc".index(parts[-2]) for parts in placed])
    codes = None if folders == ("",) else np.array([SPLITS.index(parts[0]) for parts in placed], np.int8)

    suggested = check_archive(zip_of(files), ArchiveLimits()).findings.suggested_split

    share = query_fraction(len(labels))
    made = split_dataset(labels, codes, 3, query_fraction=share, test_fraction=HELD_OUT_SHARE)
    assert suggested == {"train": len(made.train), "val": len(made.query), "test": len(made.test)}


def test_of_many_images_a_smaller_share_chooses() -> None:
    assert split_sizes((10_000, 10_000), {}) == {"train": 16_000, "val": 1_000, "test": 3_000}


def test_no_split_is_suggested_where_a_class_is_too_small_to_be_cut() -> None:
    assert split_sizes((2, 50), {}) == {}
    assert split_sizes((1, 50), Counter(train=51, test=9)) == {}
