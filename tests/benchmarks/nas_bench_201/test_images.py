"""What arms choose by."""

import json

import numpy as np
import pytest
import torch

from benchmarks.nas_bench_201.images import load_task, write_task
from search_spaces.errors import InvalidOptionError


def test_no_test_image_is_among_them(packed, tmp_path) -> None:
    data = load_task(write_task(packed, tmp_path / "images"), 0)

    images = torch.cat([data.support.images, data.query.images])
    assert len(images) == 120
    assert len(data.test) == 0
    assert bool((images.flatten(1).amax(dim=1) > 0).all())  # those to test on are black
    assert data.classes == ("red", "green", "blue")


def test_a_seed_draws_which_images_choose(packed, tmp_path) -> None:
    place = write_task(packed, tmp_path / "images")
    first, again, other = (load_task(place, seed) for seed in (0, 0, 1))

    assert len(first.query) == 18  # 15 %
    assert torch.equal(first.query.images, again.query.images)
    assert not torch.equal(first.query.images, other.query.images)


def test_classes_can_be_picked(packed, tmp_path) -> None:
    place = write_task(packed, tmp_path / "images", ["blue", "red"])

    data = load_task(place, 0)
    assert data.classes == ("blue", "red")
    assert len(data.support) + len(data.query) == 80
    blue = data.support.images[data.support.labels == 0]
    assert bool((blue[..., 2] >= 120).all())
    assert bool((blue[..., 0] < 120).all())


def test_what_is_decoded_is_not_decoded_again(packed, tmp_path) -> None:
    place = write_task(packed, tmp_path / "images")
    np.save(place / "labels.npy", np.zeros(120, np.int64))

    assert write_task(packed, tmp_path / "images") == place
    assert not np.load(place / "labels.npy").any()
    assert json.loads((place / "classes.json").read_text()) == ["red", "green", "blue"]


def test_missing_images_and_classes_are_refused(packed, tmp_path) -> None:
    with pytest.raises(InvalidOptionError, match="ARCHPRIOR_SHARED_DATA"):
        write_task(tmp_path / "nothing.npz", tmp_path)
    with pytest.raises(InvalidOptionError, match="'pink'"):
        write_task(packed, tmp_path, ["red", "pink"])
