"""What each domain takes of its source, and what it leaves."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.domains import emoji, fashion_mnist, imagenet32, mnist, scripts
from benchmarks.domains.domain import hash_of, split_by_hash, without
from benchmarks.domains.idx import read_idx
from benchmarks.domains.packages import Packages, UnavailableSourceError
from workers.contracts.errors import InvalidDatasetError
from workers.tasks.class_split import ClassSplit


def test_a_split_by_hash_keeps_shares_and_does_not_depend_on_the_order_of_the_classes() -> None:
    names = [f"class {number}" for number in range(50)]
    split = split_by_hash("signs", names)

    assert (len(split.meta_train), len(split.meta_validation), len(split.meta_test)) == (25, 10, 15)
    turned = split_by_hash("signs", names[::-1])
    assert set(turned.meta_test) == set(split.meta_test)
    assert split_by_hash("letters", names) != split


def test_classes_that_are_left_out_stay_meta_test_where_they_are() -> None:
    split = ClassSplit(meta_train=("a", "b", "c"), meta_validation=("d", "e"), meta_test=("f",))

    assert without(split, ["b", "e", "f"]) == ClassSplit(
        meta_train=("a", "c"), meta_validation=("d",), meta_test=("f",)
    )


def test_the_hash_of_arrays_sees_names_types_shapes_and_values_but_no_order() -> None:
    arrays = {"x": np.zeros((2, 3), np.uint8), "y": np.arange(2)}
    others = [
        {**arrays, "x": np.zeros((3, 2), np.uint8)},
        {**arrays, "x": np.zeros((2, 3), np.int8)},
        {**arrays, "y": np.arange(2) + 1},
        {"x": arrays["x"], "z": arrays["y"]},
    ]

    assert hash_of(dict(reversed(arrays.items()))) == hash_of(arrays)
    assert len({hash_of(arrays), *map(hash_of, others)}) == 5


def test_emoji_of_open_vendors_lie_on_white_and_small_classes_and_keycaps_are_left_out(packages: Packages) -> None:
    domain = emoji.build(packages)

    assert domain.arrays["classes"].tolist() == ["animal-bird", "clothing", "flower"]
    # Twelve flowers of one vendor, eleven of the other.
    assert np.bincount(domain.arrays["y"]).tolist() == [22, 20, 23]
    images = domain.arrays["x"]
    assert set(np.unique(images[:, :, :32])) <= set(range(50, 65))
    assert (images[:, :, 32:] == 255).all()
    assert domain.marks == {"cifar10": ("animal-bird",), "fashion_mnist": ("clothing",)}


def test_digits_get_a_black_border_and_keep_their_test_images_apart(packages: Packages) -> None:
    domain = mnist.build(packages)

    assert domain.arrays["x_train"].shape == (60, 32, 32)
    assert domain.arrays["x_test"].shape == (20, 32, 32)
    image = domain.arrays["x_train"][7]
    assert (image[2:30, 2:30] == 107).all()
    assert image.sum() == 107 * 28 * 28


def test_clothes_have_no_part_that_a_prior_could_learn_from(packages: Packages) -> None:
    domain = fashion_mnist.build(packages)

    assert domain.split is None
    assert domain.arrays["classes"][domain.arrays["y_test"][9]] == "ankle boot"


def test_imagenet_learns_from_all_but_the_classes_that_judge(imagenet_file: Path) -> None:
    split = imagenet32.from_file(imagenet_file).split

    assert split is not None
    assert (len(split.meta_train), len(split.meta_validation), len(split.meta_test)) == (152, 25, 23)
    assert set(imagenet32.NAMESAKES["cifar10"]) < set(split.meta_train)
    assert len(without(split, imagenet32.NAMESAKES["cifar10"]).meta_train) == 126


def test_an_absent_file_is_said_to_be_absent(tmp_path: Path) -> None:
    with pytest.raises(UnavailableSourceError, match="ARCHPRIOR_SHARED_DATA"):
        imagenet32.from_file(tmp_path / "absent.npz")


def test_letters_are_drawn_by_all_fonts_of_a_script_in_the_middle_and_whole(packages: Packages) -> None:
    domain = scripts.build(packages)

    assert domain.arrays["classes"].tolist() == ["Cyrillic", "Greek", "Latin"]
    images = domain.arrays["x"]
    assert (np.bincount(domain.arrays["y"]) <= scripts.MAX_IMAGES).all()
    ink = images < 255
    assert ink.any(axis=(1, 2)).all()
    for lines in (ink.any(axis=1), ink.any(axis=2)):
        before, after = lines.argmax(axis=1), lines[:, ::-1].argmax(axis=1)
        assert np.isin(after - before, (0, 1)).all()
        assert before.min() >= 3


@pytest.mark.parametrize(
    ("font", "script"),
    [
        ("NotoSans-Bold", ""),
        ("NotoSerifDisplay-Thin", ""),
        ("NotoSansMono-Regular", ""),
        ("NotoSerifTamilSlanted-Black", "Tamil"),
        ("NotoKufiArabic-Regular", "Arabic"),
        ("NotoNastaliqUrdu-Regular", "Arabic"),
        ("NotoSansTifinaghAPT-Regular", "Tifinagh"),
        ("NotoTraditionalNushu-Regular", "Nushu"),
        ("NotoSansArabicUI-Regular", None),
        ("NotoSansMath-Regular", None),
    ],
)
def test_a_font_is_named_for_its_script(font: str, script: str | None) -> None:
    assert scripts.script_of(Path(f"{font}.ttf")) == script


@pytest.mark.parametrize("data", [b"", b"\0\0\x0d\1\0\0\0\1x", b"\0\0\x08\1\0\0\0\2x", b"\0\0\x08\1\0\0\0\1xy"])
def test_what_is_no_whole_idx_file_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidDatasetError):
        read_idx(data)


def test_idx_is_read_by_its_sides() -> None:
    assert read_idx(b"\0\0\x08\2\0\0\0\2\0\0\0\3abcdef").tolist() == [[97, 98, 99], [100, 101, 102]]
