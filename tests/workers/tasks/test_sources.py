"""Folders, archives and packed files as sources of images, and as archives to upload."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workers.contracts.errors import InvalidDatasetError
from workers.tasks.archive import check_archive
from workers.tasks.images import SPLITS, LabeledImages, load_images
from workers.tasks.limits import ArchiveLimits
from workers.tasks.packed import PackedJpegs, read_packed
from workers.tasks.sources import load_source, write_zip

ZipOf = Callable[[dict[str, bytes]], Path]
ClassFiles = Callable[..., dict[str, bytes]]


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    def write(files: dict[str, bytes]) -> Path:
        for name, data in files.items():
            path = tmp_path / "folder" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return tmp_path / "folder"

    return write


@pytest.fixture
def digits_npz(tmp_path: Path, digits: LabeledImages) -> Path:
    path = tmp_path / "digits.npz"
    x, y = digits.images[..., 0], digits.labels
    np.savez(
        path, x_train=x[:1500], y_train=y[:1500], x_test=x[1500:], y_test=y[1500:], classes=np.array(digits.classes)
    )
    return path


def same(one: LabeledImages, other: LabeledImages) -> bool:
    arrays = np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)
    splits = [None if labeled.splits is None else labeled.splits.tolist() for labeled in (one, other)]
    return arrays and splits[0] == splits[1] and one.classes == other.classes


@pytest.mark.parametrize("folders", [("a", "ß"), ("x/a", "x/b"), ("train/a", "train/b", "test/a", "valid/b")])
@pytest.mark.parametrize("resolution", [None, 12])
def test_a_folder_and_its_archive_are_the_same_source(
    zip_of: ZipOf,
    folder_of: Callable[..., Path],
    class_files: ClassFiles,
    folders: tuple[str, ...],
    resolution: int | None,
) -> None:
    files = class_files(*folders) | {"README.txt": b"hello"}

    folder, archive = folder_of(files), zip_of(files)

    loaded = load_source(folder, resolution)
    assert same(loaded, load_source(archive, resolution))
    assert loaded.images.shape[1:] == ((12, 12, 3) if resolution else (8, 8, 3))


def test_real_scans_come_back_from_every_form(digits: LabeledImages, digits_npz: Path, tmp_path: Path) -> None:
    write_zip(digits_npz, tmp_path / "digits.zip")
    report = check_archive(tmp_path / "digits.zip", ArchiveLimits()).report
    packed, archived = load_source(digits_npz), load_source(tmp_path / "digits.zip")

    assert report.splits == {"train": 1500, "test": 297}
    assert (packed.images == digits.images).all()
    assert packed.labels.tolist() == digits.labels.tolist()
    # The archive is read by path: test before train, then by class, each class's images in their order.
    assert packed.splits is not None
    assert archived.splits is not None
    order = np.lexsort((np.arange(len(packed)), packed.labels, packed.splits == SPLITS.index("train")))
    assert (archived.images == packed.images[order]).all()
    assert archived.labels.tolist() == packed.labels[order].tolist()
    assert archived.splits.tolist() == packed.splits[order].tolist()


def test_without_splits_all_images_of_a_class_go_together(digits_npz: Path, tmp_path: Path) -> None:
    write_zip(digits_npz, tmp_path / "digits.zip", splits=False)

    report = check_archive(tmp_path / "digits.zip", ArchiveLimits()).report

    assert report.splits == {}
    assert report.total_images == 1797


def test_files_are_copied_as_they_are_and_never_lost_where_folders_meet(
    folder_of: Callable[..., Path], class_files: ClassFiles, tmp_path: Path
) -> None:
    files = class_files("train/a", "train/b", "val/a", "valid/a")
    write_zip(folder_of(files), tmp_path / "kept.zip")
    write_zip(tmp_path / "kept.zip", tmp_path / "merged.zip", splits=False)

    for name, num_top_folders in (("kept.zip", 2), ("merged.zip", 2)):
        with zipfile.ZipFile(tmp_path / name) as archive:
            written = [archive.read(entry) for entry in archive.infolist()]
            assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
            assert len({entry.split("/")[0] for entry in archive.namelist()}) == num_top_folders
        assert sorted(written) == sorted(files.values())


def test_symbolic_links_are_not_followed(
    folder_of: Callable[..., Path], class_files: ClassFiles, tmp_path: Path
) -> None:
    folder = folder_of(class_files("a", "b"))
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "0.png").write_bytes(b"secret")
    (folder / "a" / "link.png").symlink_to(tmp_path / "secret" / "0.png")
    (folder / "c").symlink_to(tmp_path / "secret")

    write_zip(folder, tmp_path / "out.zip")

    assert load_source(folder).classes == ("a", "b")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert len(archive.namelist()) == 12


def test_the_same_source_makes_the_same_bytes(digits_npz: Path, tmp_path: Path) -> None:
    for name in ("1.zip", "2.zip"):
        write_zip(digits_npz, tmp_path / name)

    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_slashes_in_names_of_classes_become_hyphens(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 4, 4), dtype=np.uint8)
    labels = np.arange(12) % 2
    np.savez(tmp_path / "a.npz", x=pixels, y=labels, classes=np.array(["T-shirt/top", "Bag"]))
    np.savez(tmp_path / "b.npz", x=pixels, y=labels, classes=np.array(["a/b", "a-b"]))

    write_zip(tmp_path / "a.npz", tmp_path / "a.zip")

    assert check_archive(tmp_path / "a.zip", ArchiveLimits()).report.classes == ("Bag", "T-shirt-top")
    with pytest.raises(InvalidDatasetError, match="would share a folder"):
        write_zip(tmp_path / "b.npz", tmp_path / "b.zip")


def test_packed_jpegs_are_written_without_encoding_them_again(png: Callable[..., bytes], tmp_path: Path) -> None:
    files = [png(n, side=16, format="JPEG") for n in range(12)]
    np.savez(
        tmp_path / "packed.npz",
        jpeg=np.frombuffer(b"".join(files), np.uint8),
        offsets=np.cumsum([0, *map(len, files)]),
        y=np.arange(12) % 2,
        classes=np.array(["n1", "n2"]),
    )

    write_zip(tmp_path / "packed.npz", tmp_path / "packed.zip")

    with zipfile.ZipFile(tmp_path / "packed.zip") as archive:
        assert archive.namelist()[:2] == ["n1/000000.jpg", "n2/000001.jpg"]
        assert [archive.read(name) for name in archive.namelist()] == files
    with Image.open(io.BytesIO(files[3])) as image:
        assert (load_source(tmp_path / "packed.npz").images[3] == np.asarray(image)).all()
    report = check_archive(tmp_path / "packed.zip", ArchiveLimits()).report
    loaded = load_images(tmp_path / "packed.zip", 8, report)
    by_class = [*range(0, 12, 2), *range(1, 12, 2)]
    assert (loaded.images == load_source(tmp_path / "packed.npz", 8).images[by_class]).all()


def test_images_of_several_sizes_need_a_resolution(
    zip_of: ZipOf, folder_of: Callable[..., Path], class_files: ClassFiles, png: Callable[..., bytes], tmp_path: Path
) -> None:
    files = class_files("a", "b") | {"b/large.png": png(side=9)}
    wide = np.zeros((4, 3, 5, 3), np.uint8)
    np.savez(tmp_path / "wide.npz", x=wide, y=np.arange(4))

    for source in (zip_of(files), folder_of(files), tmp_path / "wide.npz"):
        with pytest.raises(InvalidDatasetError, match="cannot keep their size"):
            load_source(source)
        assert load_source(source, 6).images.shape[1:] == (6, 6, 3)


def test_an_unreadable_image_of_a_folder_is_named(folder_of: Callable[..., Path], class_files: ClassFiles) -> None:
    folder = folder_of({**class_files("a", "b"), "a/3.png": b"no image"})

    with pytest.raises(InvalidDatasetError, match=r"a/3\.png cannot be read.*not an image of a known kind"):
        load_source(folder)


@pytest.mark.parametrize("name", ["nothing", "nothing.zip", "nothing.npz", "text.txt"])
def test_what_is_no_source_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.txt").write_text("hello")

    with pytest.raises(InvalidDatasetError, match="no dataset there"):
        load_source(tmp_path / name)
    with pytest.raises(InvalidDatasetError, match="no dataset there"):
        write_zip(tmp_path / name, tmp_path / "out.zip")


def test_the_shared_data_sets_are_read(shared_data: Path, tmp_path: Path) -> None:
    tiny, test = load_source(shared_data / "cifar10_tiny.npz"), read_packed(shared_data / "cifar10_test.npz")

    assert tiny.images.shape == (2500, 32, 32, 3)
    assert tiny.splits is not None
    assert (tiny.splits == SPLITS.index("test")).sum() == 500
    assert tiny.classes == test.classes
    assert isinstance(test, PackedJpegs)
    assert len(test.labels) == 10_000
    write_zip(shared_data / "cifar10_tiny.npz", tmp_path / "tiny.zip")
    assert check_archive(tmp_path / "tiny.zip", ArchiveLimits()).report.splits == {"train": 2000, "test": 500}
