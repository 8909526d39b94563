"""Datasets decoded into files that processes map."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from workers.contracts.errors import NodeCacheError
from workers.tasks.archive import check_archive
from workers.tasks.decoded import map_labeled, write_labeled
from workers.tasks.images import load_images
from workers.tasks.limits import ArchiveLimits

ZipOf = Callable[[dict[str, bytes]], Path]
ClassFiles = Callable[..., dict[str, bytes]]


@pytest.mark.parametrize("folders", [("a", "b"), ("train/a", "train/b", "test/b")])
def test_mapped_images_are_those_that_are_loaded(
    zip_of: ZipOf, class_files: ClassFiles, tmp_path: Path, folders: tuple[str, ...]
) -> None:
    files = class_files(*folders, each=60) | {f"{folders[0]}/x.png": b"no image"}
    path = zip_of(files)
    report = check_archive(path, ArchiveLimits()).report
    loaded = load_images(path, 16, report)

    write_labeled(path, 16, report, tmp_path)
    mapped = map_labeled(tmp_path, report.classes)

    assert len(mapped) == len(files) - 1
    assert mapped.classes == loaded.classes
    for name in ("images", "labels", "splits"):
        np.testing.assert_array_equal(getattr(mapped, name), getattr(loaded, name))
        assert getattr(mapped, name) is None or getattr(mapped, name).dtype == getattr(loaded, name).dtype


def test_a_missing_file_is_the_cache_s_fault(tmp_path: Path) -> None:
    with pytest.raises(NodeCacheError, match="damaged"):
        map_labeled(tmp_path, ("a", "b"))
