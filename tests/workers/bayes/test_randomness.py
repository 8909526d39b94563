import subprocess
import sys
from itertools import product

import torch

from workers.bayes.randomness import slot_generator


def draw(*arguments):
    return torch.rand(4, generator=slot_generator(*arguments)).tolist()


def test_equal_arguments_give_equal_draws_in_any_process():
    script = (
        "import torch; from workers.bayes.randomness import slot_generator;"
        "print(torch.rand(4, generator=slot_generator(1, 2, 3, 'task')).tolist())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert draw(1, 2, 3, "task") == draw(1, 2, 3, "task")
    assert str(draw(1, 2, 3, "task")) == elsewhere.strip()


def test_every_argument_matters_and_neighbors_never_share_draws():
    draws = {
        tuple(draw(*arguments)) for arguments in product((0, 1, 11), (0, 1, 11), (0, 1, 11), ("", "task", "inner"))
    }
    assert len(draws) == 3**4


def test_slots_are_uncorrelated():
    num_slots = 2000
    firsts = torch.tensor([draw(0, 0, slot)[0] for slot in range(num_slots)], dtype=torch.float64) - 0.5
    # Uniform numbers have variance 1/12; products of independent ones have variance 1/144.
    assert abs(firsts.mean()) < 5 * (1 / 12 / num_slots) ** 0.5
    assert abs((firsts[1:] * firsts[:-1]).mean()) < 5 / 12 / num_slots**0.5


def test_the_global_generator_is_not_touched():
    before = torch.random.get_rng_state()
    slot_generator(0, 0, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
