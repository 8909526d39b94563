"""What a task is, in a few numbers that need no network: what a prior that reads its dataset reads.

Shape letters: N images, R side in pixels, K classes, D pixels of a shrunk image.
"""

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

# Images are shrunk to this side before they are told apart by their pixels.
SHRUNK_SIDE: Final = 8
# More images, or more pixels of them, do not change a description noticeably.
MAX_IMAGES: Final = 512
MAX_PIXELS: Final = 512 * 32 * 32
CHUNK: Final = 64


def describe(
    images: Tensor, labels: Tensor, *, num_ways: int, num_examples: int, resolution: int, num_steps: int
) -> dict[str, float]:
    """Return the description of a task by entry, each of order 1.

    | entry | meaning |
    |---|---|
    | images_per_class | log10 of the mean number of images of a class, that of 100 being 0 |
    | ways | log2 of the number of classes, that of 8 being 0 |
    | resolution | log2 of the side that images are resized to, that of 16 being 0 |
    | color | mean difference between channels, in mean standard deviations over an image |
    | detail | mean difference between neighbors in a row, in the same unit |
    | separability | accuracy of the nearest mean of a class's shrunk images on those that did not make it: 0 is chance,
      1 is every image right |
    | training_steps | see `length_entry` |

    Args:
        images: uint8 [N, r, r, 3], classes in any order; the first MAX_IMAGES are looked at, each that is there several
            times once.
        labels: int64 [N], 0 to K - 1.
        num_ways: K.
        num_examples: Images to learn from and to choose by, of which these may be a sample.
        resolution: Side in pixels that a network sees.
        num_steps: That a network of typical cost is trained for, at least 1.
    """
    first = _first_of_each(images[:MAX_IMAGES])
    images, labels = images[first], labels[first]
    looked_at = max(CHUNK // 2, MAX_PIXELS // resolution**2)
    pixels = _resized(images[:looked_at], resolution)
    contrast = pixels.flatten(1).std(dim=1).mean().clamp_min(1e-3)
    color = (pixels - pixels.mean(dim=1, keepdim=True)).abs().mean() / contrast
    detail = (pixels[..., 1:] - pixels[..., :-1]).abs().mean() / contrast
    small_ND = torch.cat([_resized(part, SHRUNK_SIDE).flatten(1) for part in images.split(CHUNK)])
    return {
        "images_per_class": math.log10(num_examples / num_ways / 100),
        "ways": math.log2(num_ways / 8),
        "resolution": math.log2(resolution / 16),
        "color": float(color),
        "detail": float(detail),
        "separability": _separability(small_ND, labels, num_ways),
        "training_steps": length_entry(num_steps),
    }


def length_entry(num_steps: int) -> float:
    """Return log2 of the training steps of a network of typical cost, that of 1,000 being 0."""
    return math.log2(num_steps / 1000)


def _first_of_each(images: Tensor) -> Tensor:
    """Return the places of the first of equal images, in order: a small class may have been repeated."""
    _, group_N = torch.unique(images.flatten(1), dim=0, return_inverse=True)
    places = torch.arange(len(group_N), device=images.device)
    first = torch.full((int(group_N.max()) + 1,), len(group_N), device=images.device)
    return first.scatter_reduce(0, group_N, places, "amin").sort().values


def _resized(images: Tensor, side: int) -> Tensor:
    """Return float [N, 3, side, side], 0 to 1."""
    pixels = images.permute(0, 3, 1, 2).float().div(255)
    return F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)


def _separability(small_ND: Tensor, labels: Tensor, num_ways: int) -> float:
    """Return the accuracy above chance of class means of half the images on the other half; 0 where there is none."""
    # Every other image of each class, so that both halves know every class that has two.
    places = torch.zeros_like(labels)
    for label in range(num_ways):
        members = labels == label
        places[members] = torch.arange(int(members.sum()), device=labels.device)
    is_first = places % 2 == 0
    counts_K = torch.bincount(labels[is_first], minlength=num_ways)
    sums_KD = torch.zeros(num_ways, small_ND.shape[1], device=small_ND.device).index_add_(
        0, labels[is_first], small_ND[is_first]
    )
    means_KD = sums_KD / counts_K.clamp_min(1)[:, None]
    distances = torch.cdist(small_ND[~is_first], means_KD).masked_fill(counts_K == 0, math.inf)
    if len(distances) == 0:
        return 0.0
    accuracy = float((distances.argmin(dim=1) == labels[~is_first]).double().mean())
    return max(0.0, (accuracy - 1 / num_ways) / (1 - 1 / num_ways))
