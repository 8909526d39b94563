"""From bytes to normalized, augmented batches."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from workers.tasks.batches import MEAN, STD, augment, to_batch


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (16, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bytes_of(batch: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Undo the normalization: [N, R, R, 3] in 0 to 255."""
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return ((batch * std + mean) * 255).permute(0, 2, 3, 1).numpy()


def test_bytes_are_normalized_channels_last(images: Tensor) -> None:
    batch = to_batch(images, 32)

    expected = (images.permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(
        1, 3, 1, 1
    )
    torch.testing.assert_close(batch, expected, rtol=0, atol=1e-5)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("side", [8, 16, 20, 24, 48])
def test_resizing_is_what_pillow_does_when_an_archive_is_read(images: Tensor, side: int) -> None:
    resized = [Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR) for image in images.numpy()]
    batch = to_batch(images, side)

    assert batch.is_contiguous(memory_format=torch.channels_last)
    # Both round to bytes, torch after each of two passes with weights of its own precision: one step apart at most.
    assert np.abs(bytes_of(batch) - np.stack([np.asarray(image) for image in resized])).max() < 1.01


def test_a_whole_color_stays_that_color_at_every_side() -> None:
    plain = torch.full((1, 32, 32, 3), 200, dtype=torch.uint8)

    for side in (8, 16, 24, 48):
        assert np.abs(bytes_of(to_batch(plain, side)) - 200).max() < 0.01


def positions(side: int) -> Tensor:
    """[1, 3, R, R]: each pixel's row and column, both from 1 on, and ones."""
    row, column = torch.meshgrid(torch.arange(1.0, side + 1), torch.arange(1.0, side + 1), indexing="ij")
    return torch.stack([row, column, torch.ones(side, side)])[None]


@pytest.mark.parametrize("side", [8, 16, 32])
def test_augmenting_shifts_by_up_to_an_eighth_and_fills_with_the_mean(side: int) -> None:
    batch = positions(side).expand(200, -1, -1, -1)

    moved = augment(batch, seeded(0), flip=False)

    shifts = set()
    for image in moved:
        inside = image[2] == 1
        rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
        down = int(image[0, rows[0], columns[0]]) - 1 - int(rows[0])
        right = int(image[1, rows[0], columns[0]]) - 1 - int(columns[0])
        shifts.add((down, right))
        assert (len(rows), len(columns)) == (side - abs(down), side - abs(right))
        expected = torch.zeros(3, side, side)
        block = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        expected[0, *block] = (rows + 1.0 + down)[:, None]
        expected[1, *block] = (columns + 1.0 + right)[None, :]
        expected[2, *block] = 1
        assert torch.equal(image, expected)
    margin = side // 8
    assert {down for down, _ in shifts} == {right for _, right in shifts} == set(range(-margin, margin + 1))


def test_what_a_shift_uncovers_can_be_filled_with_the_edge() -> None:
    batch, places = positions(16).expand(50, -1, -1, -1), torch.arange(1.0, 17)

    plain, filled = (augment(batch, seeded(0), flip=False, fill=fill) for fill in ("mean", "edge"))

    inside = (plain[:, 2:] == 1).expand_as(plain)
    assert torch.equal(filled[inside], plain[inside])
    for image in filled:
        down, right = int(image[0, 8, 8]) - 9, int(image[1, 8, 8]) - 9
        assert torch.equal(image[0], (places + down).clamp(1, 16)[:, None].expand(16, 16))
        assert torch.equal(image[1], (places + right).clamp(1, 16)[None].expand(16, 16))
        assert (image[2] == 1).all()


def test_flipping_mirrors_about_half_of_the_images_and_nothing_else() -> None:
    batch = positions(7).expand(400, -1, -1, -1)  # 7 // 8: no shift

    moved = augment(batch, seeded(0), flip=True)

    mirrored = torch.tensor([not torch.equal(image, batch[0]) for image in moved])
    assert torch.equal(moved[mirrored], batch[mirrored].flip(3))
    # 400 draws at 1/2: standard deviation 10; four of those.
    assert abs(int(mirrored.sum()) - 200) < 40
    assert torch.equal(augment(batch, seeded(0), flip=False), batch)


def test_augmenting_is_a_function_of_the_generator(images: Tensor) -> None:
    batch = to_batch(images, 32)

    one, again, other = (augment(batch, seeded(seed), flip=True) for seed in (1, 1, 2))

    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.is_contiguous(memory_format=torch.channels_last)
