"""A checked archive as arrays."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workers.contracts.errors import InvalidDatasetError
from workers.tasks.archive import check_archive
from workers.tasks.images import SPLITS, LabeledImages, load_images
from workers.tasks.limits import ArchiveLimits

ZipOf = Callable[[dict[str, bytes]], Path]
ClassFiles = Callable[..., dict[str, bytes]]


def plain(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (12, 9), value).save(buffer, "PNG")
    return buffer.getvalue()


def load(path: Path, resolution: int, num_threads: int | None = None) -> LabeledImages:
    return load_images(path, resolution, check_archive(path, ArchiveLimits()).report, num_threads=num_threads)


def test_images_come_in_the_order_of_their_paths_with_their_labels(zip_of: ZipOf) -> None:
    files = {f"b/{n}.png": plain(10 + n) for n in range(5)} | {f"a/{n}.png": plain(n) for n in range(6)}

    loaded = load(zip_of(files), 8)

    assert loaded.classes == ("a", "b")
    assert loaded.images.shape == (11, 8, 8, 3)
    assert loaded.images.dtype == np.uint8
    assert loaded.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14]
    assert loaded.labels.dtype == np.int64
    assert loaded.labels.tolist() == [0] * 6 + [1] * 5
    assert loaded.splits is None
    assert len(loaded) == 11


def test_declared_splits_come_along(zip_of: ZipOf, class_files: ClassFiles) -> None:
    files = class_files("train/a", "train/b") | class_files("valid/a", each=2) | class_files("test/b", each=1)

    loaded = load(zip_of(files), 8)

    assert loaded.splits is not None
    assert [SPLITS[code] for code in loaded.splits] == ["test"] + ["train"] * 12 + ["val"] * 2
    assert loaded.labels.tolist() == [1] + [0] * 6 + [1] * 6 + [0] * 2


def test_skipped_images_are_left_out(zip_of: ZipOf, class_files: ClassFiles) -> None:
    files = class_files("a", "b", each=60)
    files["a/3.png"] = b"no image"

    assert np.bincount(load(zip_of(files), 8).labels).tolist() == [59, 60]


def test_the_number_of_threads_changes_nothing(zip_of: ZipOf, class_files: ClassFiles) -> None:
    path = zip_of(class_files("a", "b", "c", each=7))

    one, three = load(path, 11, num_threads=1), load(path, 11, num_threads=3)

    assert (one.images == three.images).all()
    assert (one.labels == three.labels).all()
    assert len(np.unique(one.images, axis=0)) == 21


def test_another_archive_than_the_checked_one_is_refused(zip_of: ZipOf, class_files: ClassFiles) -> None:
    report = check_archive(zip_of(class_files("a", "b")), ArchiveLimits()).report

    for other in (class_files("a", "c"), class_files("a", "b", each=7)):
        with pytest.raises(InvalidDatasetError, match="not the one that was checked"):
            load_images(zip_of(other), 8, report)


def test_an_image_that_broke_since_the_check_is_named(zip_of: ZipOf, class_files: ClassFiles) -> None:
    files = class_files("a", "b")
    report = check_archive(zip_of(files), ArchiveLimits()).report

    with pytest.raises(InvalidDatasetError, match=r"a/2\.png can no longer be read"):
        load_images(zip_of({**files, "a/2.png": b"no image"}), 8, report)


def test_a_checked_archive_is_not_bounded_again(zip_of: ZipOf) -> None:
    buffer = io.BytesIO()
    Image.new("L", (9000, 8000)).save(buffer, "PNG", compress_level=1)
    path = zip_of({f"{name}/{n}.png": buffer.getvalue() for name in "ab" for n in range(2)})
    wide = ArchiveLimits(max_pixels=80_000_000, min_images_per_class=2)

    assert load_images(path, 8, check_archive(path, wide).report).images.shape == (4, 8, 8, 3)
