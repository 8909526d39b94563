"""Small meta-trainings: noise images of a few classes, each of its own color, so that there is something to learn."""

from collections.abc import Iterator

import pytest
import torch

from workers.contracts.meta_config import MetaConfig
from workers.contracts.priors import MacroSpec
from workers.tasks.distribution import ClassImages


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def classes() -> ClassImages:
    generator = torch.Generator().manual_seed(0)
    names = tuple(f"class {label}" for label in range(6))
    labels = torch.arange(6).repeat_interleave(20)
    colors = torch.rand(6, 3, generator=generator) * 150
    noise = torch.rand(120, 8, 8, 3, generator=generator) * 100
    images = (colors[labels][:, None, None, :] + noise).to(torch.uint8)
    return ClassImages(images=images, labels=labels, class_names=names)


@pytest.fixture
def config() -> MetaConfig:
    return MetaConfig(
        search_space="nas_bench_201",
        macro=MacroSpec(num_channels=4, num_cells=1),
        num_steps=9,
        warmup_steps=3,
        joint_steps=6,
        num_slots=2,
        resolutions=(8,),
        resolution_weights=(1.0,),
        min_ways=2,
        max_ways=3,
        joint_batch=16,
        num_support=12,
        num_query=12,
        num_inner_steps=2,
        num_arch_samples=2,
        lr_rise_steps=1,
        evaluate_every=4,
        checkpoint_every=2,
    )
