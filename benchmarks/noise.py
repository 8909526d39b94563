"""Images made here: classes of noise, each around a pattern of its own. Cost does not depend on what images show."""

import torch
import torch.nn.functional as F

from workers.tasks.distribution import ClassImages


def noise_classes(num_classes: int, images_per_class: int, resolution: int) -> ClassImages:
    """Return classes that can be told apart: coarse color patterns of 4 x 4 patches under noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_classes).repeat_interleave(images_per_class)
    patterns = torch.rand(num_classes, 3, 4, 4, generator=generator) * 150
    patterns = F.interpolate(patterns, size=resolution, mode="nearest").permute(0, 2, 3, 1)
    noise = torch.rand(len(labels), resolution, resolution, 3, generator=generator) * 100
    return ClassImages(
        images=(patterns[labels] + noise).to(torch.uint8),
        labels=labels,
        class_names=tuple(f"class {label:02d}" for label in range(num_classes)),
    )
