"""Small meta-trainings: noise images of a few classes, each of its own color, so that there is something to learn.

And runs of them in a scripted world, see `scripted.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.workers.meta.scripted import Run
from workers.contracts.meta_config import MetaConfig
from workers.contracts.priors import MacroSpec
from workers.meta.flat import Flat, unpack
from workers.meta.learning import evaluation
from workers.meta.learning.loop import meta_train
from workers.meta.rules import Learned
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


@pytest.fixture
def short_config(config: MetaConfig) -> MetaConfig:
    """Two steps of each part, two slots each."""
    update = {"num_steps": 6, "warmup_steps": 2, "joint_steps": 4, "evaluate_every": 3}
    return config.model_copy(update=update)


@pytest.fixture
def make_run(short_config: MetaConfig, classes: ClassImages, tmp_path: Path) -> Callable[..., Run]:
    """Makes a run; those with one folder are attempts of one run."""

    def make(*, folder: str = "store", held_out: bool = False, **changes: object) -> Run:
        changed = MetaConfig.model_validate({**short_config.model_dump(), **changes})
        return Run(changed, classes, tmp_path / folder, held_out=held_out)

    return make


@pytest.fixture(scope="session")
def undisturbed(
    classes: ClassImages, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[MetaConfig], Mapping[str, Tensor]]:
    """Returns the prior that the in-process loop learns by a configuration, with the persistent heads."""
    known: dict[str, Mapping[str, Tensor]] = {}

    def learn(config: MetaConfig) -> Mapping[str, Tensor]:
        key = config.model_dump_json()
        if key not in known:
            state = meta_train(config, classes, None, tmp_path_factory.mktemp("loop"))
            known[key] = state.prior_with_heads.to_arrays()
        return known[key]

    return learn


@pytest.fixture(scope="session")
def same() -> Callable[[Learned, Mapping[str, Tensor]], bool]:
    """Returns whether what was learned has these tensors, bit for bit."""

    def compare(learned: Learned, expected: Mapping[str, Tensor]) -> bool:
        assert isinstance(learned.prior, Flat)
        arrays = unpack(learned.prior)
        return arrays.keys() == expected.keys() and all(torch.equal(arrays[name], expected[name]) for name in arrays)

    return compare


@pytest.fixture
def small_judgements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out tasks of few images and steps: a test waits for what comes of them, not for how good it is."""
    monkeypatch.setattr(evaluation, "SIZES", (24, 24))
    monkeypatch.setattr(evaluation, "CURVE_STEPS", (0, 1))
