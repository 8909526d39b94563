"""Where an adaptation begins, and what is measured before anything is planned."""

import pytest
import torch
from torch import nn

from search_spaces.registry import SPACES
from workers.adapt.data import Part, TaskData, at_once
from workers.adapt.plan import export_seconds
from workers.adapt.start import begin, num_layers
from workers.priors.model import uniform_logits


@pytest.mark.parametrize(("axis", "num_query", "flip"), [(2, 64, False), (1, 64, True), (1, 49, False)])
def test_nothing_is_mirrored_where_that_makes_another_class_of_it(axis: int, num_query: int, flip: bool) -> None:
    """What is bright tells the class: the left or the right half (axis 2), or the upper or the lower one (axis 1).

    Of fewer than 50 held-out images it cannot be told.
    """
    labels = torch.arange(64) % 2
    images = torch.randint(0, 60, (64, 16, 16, 3), generator=torch.Generator().manual_seed(0))
    for image, label in zip(images, labels.tolist(), strict=True):
        image.narrow(axis - 1, 8 * label, 8).add_(150)
    part = Part(images=images.byte(), labels=labels)
    data = TaskData(support=part, query=part.first(num_query), test=part.first(0), classes=("a", "b"))
    space = SPACES["nas_bench_201"]
    macro = space.default_macro(num_classes=2, image_size=16)
    start = begin(space.name, macro, None, data, space.cheapest()[0], 0, arch_logits=uniform_logits(space))
    assert start.flip is flip


def test_large_images_are_forwarded_few_at_a_time() -> None:
    assert [at_once(256, side) for side in (16, 32, 64, 128, 256, 1000)] == [256, 256, 64, 16, 4, 1]
    part = Part(images=torch.zeros(9, 128, 128, 3, dtype=torch.uint8), labels=torch.arange(9))
    assert [len(labels) for _, labels in part.batches(64)] == [4, 4, 1]


def test_layers_are_the_modules_that_hold_no_others() -> None:
    inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    assert num_layers(nn.Sequential(inner, nn.ReLU(), nn.Sequential(inner[0]))) == 3  # a shared one counts once
    assert num_layers(nn.ReLU()) == 1


def test_each_layer_adds_to_the_export() -> None:
    assert export_seconds(190) > 2 * export_seconds(46) > 2 * export_seconds(0) > 0
