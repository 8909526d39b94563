"""What a dataset looks like, in numbers."""

import pytest
import torch

from workers.contracts.loss_model import ENTRIES
from workers.tasks.description import describe

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(64) % 4
NOISE = torch.randint(0, 256, (64, 16, 16, 3), generator=GENERATOR, dtype=torch.uint8)
GRAY = NOISE[..., :1].expand(-1, -1, -1, 3).contiguous()
# Each class has a brightness of its own, under a little noise.
SEPARATE = (60 * LABELS[:, None, None, None] + NOISE // 8).to(torch.uint8)


def described(images: torch.Tensor, **changes: int) -> dict[str, float]:
    sizes = {"num_ways": 4, "num_examples": 400, "resolution": 16, "num_steps": 1000} | changes
    return describe(images, LABELS, **sizes)


def test_every_entry_has_its_name() -> None:
    assert tuple(described(NOISE)) == ENTRIES


def test_sizes_are_logarithms_of_usual_ones() -> None:
    found = described(NOISE)
    assert (found["images_per_class"], found["ways"], found["resolution"]) == (0.0, -1.0, 0.0)
    assert described(NOISE, num_examples=4000)["images_per_class"] == pytest.approx(1.0)
    assert described(NOISE, resolution=32)["resolution"] == 1.0
    assert (found["training_steps"], described(NOISE, num_steps=250)["training_steps"]) == (0.0, -2.0)


def test_gray_images_have_no_color() -> None:
    assert described(GRAY)["color"] == pytest.approx(0.0, abs=1e-6)
    assert described(NOISE)["color"] > 0.5


def test_flat_images_have_less_detail_than_noise() -> None:
    smooth = torch.arange(16, dtype=torch.uint8)[None, None, :, None].expand(64, 16, 16, 3).contiguous() * 16
    assert described(smooth)["detail"] < 0.5 * described(NOISE)["detail"]


def test_classes_that_differ_in_brightness_are_told_apart_and_noise_is_not() -> None:
    assert described(SEPARATE)["separability"] == pytest.approx(1.0)
    # Of 32 images at a chance of 1/4: a standard error of 0.08, 0.1 above chance.
    assert described(NOISE)["separability"] < 0.3


def test_images_that_are_there_twice_count_once() -> None:
    twice = NOISE.repeat(3, 1, 1, 1)
    found = describe(twice, LABELS.repeat(3), num_ways=4, num_examples=400, resolution=16, num_steps=1000)
    assert found == described(NOISE)


def test_the_look_is_that_of_the_resolution_whatever_the_side_of_the_images() -> None:
    large = torch.randint(0, 256, (64, 32, 32, 3), generator=GENERATOR, dtype=torch.uint8)
    pixels = large.permute(0, 3, 1, 2).float()
    small = torch.nn.functional.interpolate(pixels, (16, 16), mode="bilinear", antialias=True).permute(0, 2, 3, 1)
    assert described(large)["detail"] == pytest.approx(described(small.round().byte())["detail"], rel=0.02)
    assert described(large)["detail"] != pytest.approx(described(large, resolution=32)["detail"], rel=0.1)


def test_one_image_of_each_class_says_nothing_of_separability() -> None:
    found = describe(NOISE[:4], LABELS[:4], num_ways=4, num_examples=4, resolution=16, num_steps=1)
    assert found["separability"] == 0.0


def test_all_white_images_are_described() -> None:
    white = torch.full((8, 8, 8, 3), 255, dtype=torch.uint8)
    found = describe(white, torch.arange(8) % 2, num_ways=2, num_examples=8, resolution=8, num_steps=1)
    assert all(abs(value) < 10 for value in found.values())
