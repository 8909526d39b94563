"""A run's images: from the store, decoded once on a node, the right classes and no others."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workers.contracts.errors import InvalidDatasetError, StoreError
from workers.contracts.meta_runs import MetaDataset
from workers.meta.learning.data import LocalDataset, MetaData, fetch_meta_data, load_meta_data
from workers.store import layout
from workers.store.folder import FolderStore
from workers.tasks.archive import check_archive
from workers.tasks.class_split import ClassSplit
from workers.tasks.distribution import TaskDistribution
from workers.tasks.limits import ArchiveLimits
from workers.tasks.node_cache import NodeCache

SIDE = 8
NOT_AN_IMAGE = b"not an image"


def image(shade: int, number: int = 0) -> bytes:
    """A PNG of one shade, which tells its class, with noise in one channel that tells the images of a class apart."""
    pixels = np.full((SIDE, SIDE, 3), shade, np.uint8)
    pixels[..., 1] = np.random.default_rng(1000 * shade + number).integers(0, 256, (SIDE, SIDE))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def folders(shades: Mapping[str, int], each: int = 6) -> dict[str, bytes]:
    return {
        f"{folder}/{number}.png": image(shade, number) for folder, shade in shades.items() for number in range(each)
    }


LETTERS = {name: 10 * (1 + position) for position, name in enumerate("abcdef")}
TRAIN, JUDGE, NEVER = ("d", "a", "b"), ("e", "c"), ("f",)


@dataclass
class Shelf:
    """A store with datasets in it."""

    store: FolderStore
    folder: Path

    def add(
        self,
        files: Mapping[str, bytes],
        *,
        name: str = "letters",
        dataset_id: str = "ds_1",
        broken: Callable[[str], bool] = lambda path: False,
        **choice: object,
    ) -> MetaDataset:
        """Check and store an archive; images that are `broken` were fine when it was checked."""
        path = self._zip(f"{dataset_id}.zip", files)
        report = check_archive(path, ArchiveLimits()).report
        path = self._zip(path.name, {at: NOT_AN_IMAGE if broken(at) else data for at, data in files.items()})
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        keys = layout.dataset_archive(sha256), layout.dataset_report(sha256)
        self.store.put_file(keys[0], path)
        self.store.put_bytes(keys[1], report.model_dump_json().encode())
        parts = {"meta_train": TRAIN, "meta_validation": JUDGE, "meta_test": NEVER}
        return MetaDataset.model_validate(
            {"dataset_id": dataset_id, "name": name, "sha256": sha256, "archive_key": keys[0], "report_key": keys[1]}
            | {"terms": f"terms of {name}"}
            | parts
            | choice
        )

    def _zip(self, name: str, files: Mapping[str, bytes]) -> Path:
        path = self.folder / name
        with zipfile.ZipFile(path, "w") as archive:
            for at, data in files.items():
                archive.writestr(zipfile.ZipInfo(at), data)
        return path


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(FolderStore(tmp_path / "store", create=True), tmp_path)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[NodeCache]:
    made = NodeCache(tmp_path / "cache", 1 << 30)
    yield made
    made.close()


@pytest.fixture
def fetch(shelf: Shelf, cache: NodeCache) -> Callable[..., MetaData]:
    def call(*datasets: MetaDataset, resolution: int = SIDE) -> MetaData:
        return fetch_meta_data(shelf.store, datasets, resolution, cache)

    return call


def shades_of(classes: object) -> dict[str, set[int]]:
    """Return which shades the images of each class have."""
    return {
        name: set(classes.images[classes.labels == label][:, 0, 0, 0].tolist())
        for label, name in enumerate(classes.class_names)
    }


def test_classes_come_by_part_in_the_order_asked_for(shelf: Shelf, fetch: Callable[..., MetaData]) -> None:
    data = fetch(shelf.add(folders(LETTERS)))

    assert data.meta_train.class_names == TRAIN
    assert data.meta_validation.class_names == JUDGE
    for classes in (data.meta_train, data.meta_validation):
        assert shades_of(classes) == {name: {LETTERS[name]} for name in classes.class_names}
        assert torch.bincount(classes.labels).tolist() == [6] * len(classes.class_names)
        assert classes.images.shape[1:] == (SIDE, SIDE, 3)
    assert data.dataset_weights is None


def test_tasks_are_those_of_the_same_archive_read_locally(shelf: Shelf, fetch: Callable[..., MetaData]) -> None:
    fetched = fetch(shelf.add(folders(LETTERS)), resolution=6)
    split = ClassSplit(meta_train=TRAIN, meta_validation=JUDGE)
    local = load_meta_data([LocalDataset(path=shelf.folder / "ds_1.zip", split=split)], 6)

    for mine, its in ((fetched.meta_train, local.meta_train), (fetched.meta_validation, local.meta_validation)):
        for seed in range(3):
            one, other = (
                TaskDistribution(classes, {6: 1.0}).sample(
                    torch.Generator().manual_seed(seed), num_ways=(2, 2), sizes=(8, 4)
                )
                for classes in (mine, its)
            )
            assert torch.equal(one.support_images, other.support_images)
            assert torch.equal(one.query_images, other.query_images)
            assert torch.equal(one.class_ids, other.class_ids)


def test_only_classes_that_are_used_are_decoded(shelf: Shelf, fetch: Callable[..., MetaData]) -> None:
    unused = shelf.add(folders(LETTERS), broken=lambda path: path.startswith("f/"))
    used = shelf.add(folders(LETTERS), dataset_id="ds_2", broken=lambda path: path == "e/3.png")

    assert fetch(unused).meta_train.class_names == TRAIN
    with pytest.raises(InvalidDatasetError, match=r"the image e/3.png can no longer be read"):
        fetch(used)


def test_of_declared_splits_only_training_images_are_decoded(shelf: Shelf, fetch: Callable[..., MetaData]) -> None:
    files = folders({f"train/{name}": shade for name, shade in LETTERS.items()})
    files |= folders({f"test/{name}": 200 for name in LETTERS})

    data = fetch(shelf.add(files, broken=lambda path: path.startswith("test/")))

    assert shades_of(data.meta_train) == {name: {LETTERS[name]} for name in TRAIN}
    assert len(data.meta_train.images) == 18


def test_images_are_decoded_once_and_then_read_without_the_archive(
    shelf: Shelf, fetch: Callable[..., MetaData]
) -> None:
    dataset = shelf.add(folders(LETTERS))
    first = fetch(dataset)
    shelf.store.delete(dataset.archive_key)
    again = fetch(dataset)

    assert torch.equal(first.meta_train.images, again.meta_train.images)
    for other in ({"meta_train": TRAIN[::-1]}, {"meta_validation": ()}):
        with pytest.raises(StoreError, match="no such object"):
            fetch(dataset.model_copy(update=other))
    with pytest.raises(StoreError, match="no such object"):
        fetch(dataset, resolution=4)


def test_names_may_change_without_decoding_again(shelf: Shelf, fetch: Callable[..., MetaData]) -> None:
    dataset = shelf.add(folders(LETTERS))
    fetch(dataset)
    shelf.store.delete(dataset.archive_key)

    renamed = fetch(dataset.model_copy(update={"name": "signs", "weight": 2.0, "meta_test": ()}))

    assert renamed.learned_from[0].name == "signs"
    assert renamed.dataset_weights == (2.0,)


def test_images_are_mapped_and_what_one_changes_no_other_sees(shelf: Shelf, fetch: Callable[..., MetaData]) -> None:
    dataset = shelf.add(folders(LETTERS))
    mine, other = fetch(dataset), fetch(dataset)
    before = other.meta_train.images.clone()
    mine.meta_train.images.zero_()

    assert "meta_train.npy" in Path("/proc/self/maps").read_text()
    assert torch.equal(other.meta_train.images, before)
    assert torch.equal(fetch(dataset).meta_train.images, before)


def test_an_archive_of_other_bytes_is_refused_and_not_kept(
    shelf: Shelf, fetch: Callable[..., MetaData], tmp_path: Path
) -> None:
    dataset = shelf.add(folders(LETTERS))
    right = shelf.store.get_bytes(dataset.archive_key)
    shelf.store.put_bytes(dataset.archive_key, right + b"\0")

    with pytest.raises(InvalidDatasetError, match="the archive of the dataset letters is not the one"):
        fetch(dataset)

    shelf.store.put_bytes(dataset.archive_key, right)
    assert fetch(dataset).meta_train.class_names == TRAIN
    assert not list((tmp_path / "cache").rglob("archive.zip"))


def test_several_datasets_qualify_their_classes_and_count_by_their_weights(
    shelf: Shelf, fetch: Callable[..., MetaData]
) -> None:
    letters = shelf.add(folders(LETTERS))
    digits = folders({"1": 110, "2": 120, "3": 130, "a": 140}, each=7)
    parts = {"meta_train": ("a", "2"), "meta_validation": ("1", "3"), "meta_test": ()}
    other = shelf.add(digits, name="digits", dataset_id="ds_2", **parts)
    judged = shelf.add(
        digits | folders({"5": 9}), name="more", dataset_id="ds_3", **{**parts, "meta_train": ()}, weight=9.0
    )

    data = fetch(judged, letters, other.model_copy(update={"weight": 5.0}))

    names = ("letters/d", "letters/a", "letters/b", "digits/a", "digits/2")
    assert data.meta_train.class_names == names
    assert data.meta_train.dataset_ids == (0, 0, 0, 1, 1)
    assert data.dataset_weights == (3.0, 5.0)
    assert shades_of(data.meta_train)["digits/a"] == {140}
    assert data.meta_validation.class_names == (
        *("more/1", "more/3"),
        *("letters/e", "letters/c"),
        *("digits/1", "digits/3"),
    )
    assert data.meta_validation.dataset_ids == (0, 0, 1, 1, 2, 2)
    assert shades_of(data.meta_validation)["digits/3"] == {130}
    assert [(item.name, item.sha256, item.terms, item.classes) for item in data.learned_from] == [
        ("letters", letters.sha256, "terms of letters", TRAIN),
        ("digits", other.sha256, "terms of digits", ("a", "2")),
    ]
    TaskDistribution(data.meta_train, {SIDE: 1.0}, data.dataset_weights)
    assert fetch(letters, other).dataset_weights is None


def test_datasets_of_one_name_are_told_apart_by_their_ids(shelf: Shelf, fetch: Callable[..., MetaData]) -> None:
    one, two, three = (
        shelf.add(folders(LETTERS), name=name, dataset_id=dataset_id)
        for name, dataset_id in (("letters", "ds_1"), ("letters", "ds_2"), ("signs", "ds_3"))
    )

    names = fetch(one, two, three).meta_validation.class_names

    assert names == ("ds_1/e", "ds_1/c", "ds_2/e", "ds_2/c", "signs/e", "signs/c")


def test_a_comparison_has_nothing_to_learn_from(shelf: Shelf, fetch: Callable[..., MetaData]) -> None:
    data = fetch(shelf.add(folders(LETTERS), meta_train=(), weight=2.0))

    assert data.meta_train is None
    assert data.learned_from == ()
    assert data.dataset_weights is None
    assert data.meta_validation.class_names == JUDGE


def test_too_few_classes_or_images_name_the_dataset_and_the_class(shelf: Shelf, fetch: Callable[..., MetaData]) -> None:
    letters = shelf.add(folders(LETTERS))
    for choice, message in (
        ({"meta_train": ("a",)}, "the dataset letters has too few classes for meta_train: got 'a'"),
        ({"meta_validation": ("c",)}, "the dataset letters has too few classes for meta_validation: got 'c'"),
        ({"meta_train": (), "meta_validation": ()}, "no class of the dataset letters is to be used"),
        ({"meta_train": ("a", "x")}, "the class x of the dataset letters has too few images to learn from: got 0"),
    ):
        with pytest.raises(InvalidDatasetError, match=message):
            fetch(letters.model_copy(update=choice))


def packed(path: Path, shades: Mapping[str, int], *, side: int, channels: tuple[int, ...] = (3,)) -> Path:
    """A packed dataset of one shade for each class, six images each; no channels: grey."""
    labels = np.repeat(np.arange(len(shades)), 6)
    pixels = np.array([*shades.values()], np.uint8)[labels].reshape(-1, 1, 1, *[1] * len(channels))
    images = np.broadcast_to(pixels, (len(labels), side, side, *channels))
    np.savez(path, x=images, y=labels, classes=np.array([*shades]))
    return path


def test_several_local_datasets_qualify_their_classes_and_count_by_their_weights(tmp_path: Path) -> None:
    letters = packed(tmp_path / "letters.npz", LETTERS, side=8)
    digits = packed(tmp_path / "digits.npz", {"a": 140, "2": 150}, side=4, channels=())
    split = ClassSplit(meta_train=TRAIN, meta_validation=JUDGE)

    data = load_meta_data(
        [
            LocalDataset(path=letters, split=split, terms="of letters"),
            LocalDataset(path=digits, weight=5.0, terms="of digits"),
        ],
        SIDE,
    )

    assert data.meta_train.class_names == ("letters/d", "letters/a", "letters/b", "digits/a", "digits/2")
    assert data.meta_train.dataset_ids == (0, 0, 0, 1, 1)
    assert data.dataset_weights == (3.0, 5.0)
    assert shades_of(data.meta_train)["digits/a"] == {140}
    assert data.meta_validation.class_names == ("letters/e", "letters/c")
    assert [(item.name, item.terms, item.classes) for item in data.learned_from] == [
        ("letters.npz", "of letters", TRAIN),
        ("digits.npz", "of digits", ("a", "2")),
    ]
    # Gray images, and those of another size, come as color images of the run's size.
    (gray,) = data.meta_train.images[data.meta_train.labels == 3][:1]
    assert gray.shape == (SIDE, SIDE, 3)
    assert gray.unique().tolist() == [140]


def test_local_datasets_without_weights_have_none_and_one_name_is_numbered(tmp_path: Path) -> None:
    paths = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        paths.append(packed(tmp_path / folder / "data.npz", LETTERS, side=4))

    data = load_meta_data([LocalDataset(path=path) for path in paths], 4)

    assert data.dataset_weights is None
    assert data.meta_train.class_names[0] == "1-data/a"
    assert data.meta_train.class_names[-1] == "2-data/f"


def test_a_class_that_a_local_dataset_lacks_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "letters.npz", LETTERS, side=4)

    with pytest.raises(InvalidDatasetError, match="lack classes that were named: got 'z'"):
        load_meta_data([LocalDataset(path=path, split=ClassSplit(meta_train=("a", "z")))], 4)
