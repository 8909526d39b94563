"""A small smooth supernet in float64: shared and unused tensors, a padded option, scales of every shape."""

from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workers.bayes.distributions import MASKED_LOGIT, Batch, Family, Likelihood, MetaPrior, Task
from workers.bayes.elbo import Objective
from workers.bayes.estimators import Estimator, Relaxed

NUM_FEATURES, NUM_HIDDEN, NUM_CLASSES = 3, 4, 3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tanh_supernet(theta: Mapping[str, Tensor], op_weights: Tensor, batch: Batch) -> Tensor:
    hidden = torch.tanh(batch.images @ theta["stem"].T)
    for weights in op_weights:  # both decisions use `shared` and `gain`
        options = [torch.tanh(hidden @ theta["shared"].T), hidden * theta["gain"], torch.zeros_like(hidden), -hidden]
        hidden = hidden + sum(weight * option for weight, option in zip(weights, options, strict=True))
    return F.cross_entropy(hidden @ theta["classifier"].T, batch.labels, reduction="none")


@pytest.fixture
def supernet() -> Likelihood:
    return tanh_supernet


@pytest.fixture
def make_generator() -> Callable[[int], torch.Generator]:
    return lambda seed: torch.Generator().manual_seed(seed)


@pytest.fixture
def make_prior() -> Callable[[int], MetaPrior]:
    def build(seed: int) -> MetaPrior:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        arch_logits = normal(2, 4)
        arch_logits[1, 3] = MASKED_LOGIT  # the second decision has three options
        loc = {
            "stem": normal(NUM_HIDDEN, NUM_FEATURES),
            "shared": normal(NUM_HIDDEN, NUM_HIDDEN),
            "gain": normal(NUM_HIDDEN),
            "unused": normal(2),
        }
        log_scale = {
            "stem": 0.3 * normal() - 1,
            "shared": 0.3 * normal(NUM_HIDDEN, 1) - 1,
            "gain": 0.3 * normal(NUM_HIDDEN) - 1,
            "unused": 0.3 * normal(1) - 1,
        }
        return MetaPrior(arch_logits, loc, log_scale)

    return build


@pytest.fixture
def make_head() -> Callable[[int], dict[str, Tensor]]:
    def build(seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {"classifier": torch.randn(NUM_CLASSES, NUM_HIDDEN, generator=generator, dtype=torch.float64)}

    return build


@pytest.fixture
def make_task() -> Callable[[int], Task]:
    def build(seed: int) -> Task:
        generator = torch.Generator().manual_seed(seed)

        def batch(size: int) -> Batch:
            images = torch.randn(size, NUM_FEATURES, generator=generator, dtype=torch.float64)
            return Batch(images=images, labels=torch.randint(NUM_CLASSES, (size,), generator=generator))

        return Task(support=[batch(5), batch(4)], query=batch(6), num_examples=15)

    return build


@pytest.fixture
def make_objective(supernet: Likelihood) -> Callable[..., Objective]:
    def build(
        family: Family = "gaussian",
        estimator: Estimator | None = None,
        likelihood: Likelihood = supernet,
        weight_kl: float = 1.0,
        arch_kl: float = 1.0,
    ) -> Objective:
        return Objective(
            likelihood=likelihood,
            estimator=estimator or Relaxed(temperature=0.7),
            family=family,
            weight_kl=weight_kl,
            arch_kl=arch_kl,
        )

    return build
