import random
from collections.abc import Callable, Iterator

import pytest
import torch

from search_spaces.architecture import Architecture
from search_spaces.registry import SPACES
from search_spaces.spec import SearchSpace

DrawArchitectures = Callable[..., list[Architecture]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=sorted(SPACES))
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return SPACES[request.param]


@pytest.fixture
def draw_architectures() -> DrawArchitectures:
    """Valid architectures with uniformly drawn options."""

    def draw(space: SearchSpace, count: int, seed: int = 0) -> list[Architecture]:
        rng = random.Random(seed)
        found: list[Architecture] = []
        while len(found) < count:
            choices = tuple(rng.randrange(len(decision.options)) for decision in space.decisions)
            arch = Architecture(space.name, choices)
            if space.is_valid(arch):
                found.append(arch)
        return found

    return draw
