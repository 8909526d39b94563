"""From bytes to what a network takes: normalized float batches, resized and augmented.

Shape letters: N images, R side in pixels.
"""

from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# Of ImageNet at 32x32; every prior and every exported network uses the same, so that weights pass between them.
MEAN: Final = (0.481, 0.457, 0.408)
STD: Final = (0.260, 0.253, 0.268)
Fill = Literal["mean", "edge"]


def to_batch(images: Tensor, resolution: int) -> Tensor:
    """Return float32 [N, 3, R, R], channels last, normalized, of uint8 images [N, r, r, 3].

    Other sides are resized by bilinear interpolation with antialias: what Pillow does when an archive's images are
    read, so that a shrunk image looks the same from either.
    """
    pixels = images.permute(0, 3, 1, 2)
    if pixels.shape[-1] != resolution:
        # The kernel for bytes is several times faster, but it is the CPU's alone.
        pixels = pixels if pixels.device.type == "cpu" else pixels.float()
        pixels = F.interpolate(pixels, (resolution, resolution), mode="bilinear", antialias=True)
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    # (x / 255 - mean) / std, in one pass over the pixels.
    batch = torch.addcmul(-mean / std, pixels.float(), 1 / (255 * std))
    return batch.contiguous(memory_format=torch.channels_last)


def augment(batch: Tensor, generator: torch.Generator, *, flip: bool, fill: Fill = "mean") -> Tensor:
    """Return the batch with each image shifted by up to R / 8 pixels and, if `flip`, mirrored with probability 1/2.

    One gather of pixels for the whole batch.

    Args:
        batch: [N, 3, R, R].
        generator: On the CPU, whatever the device of the batch, so that devices draw alike.
        flip: Only where mirrored images keep their label.
        fill: What a shift uncovers: zeros, the mean color; or the pixels of the edge: a white ground stays white.

    Returns:
        [N, 3, R, R], channels last.
    """
    num_images, num_channels, side, _ = batch.shape
    margin = side // 8
    shifts = torch.randint(-margin, margin + 1, (2, num_images, 1), generator=generator)
    sides = torch.arange(side)
    rows, columns = shifts[0] + sides, shifts[1] + sides
    if flip:
        mirrored = torch.rand(num_images, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    first = side * side * torch.arange(num_images).view(-1, 1, 1)
    pixels = batch.permute(0, 2, 3, 1).reshape(-1, num_channels)
    if fill == "edge":
        places = first + side * rows.clamp(0, side - 1)[:, :, None] + columns.clamp(0, side - 1)[:, None, :]
    else:
        inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
        # Pixel 0 is one of zeros put before all others.
        places = torch.where(inside, 1 + first + side * rows[:, :, None] + columns[:, None, :], 0)
        pixels = torch.cat([pixels.new_zeros(1, num_channels), pixels])
    moved = pixels.index_select(0, places.flatten().to(batch.device))
    return moved.view(num_images, side, side, num_channels).permute(0, 3, 1, 2)
