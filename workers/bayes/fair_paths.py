"""Paths that give every option of a decision the same number of turns.

| symbol | meaning | in code |
|---|---|---|
| n | how many paths were drawn before | `number` |
| O_e | options that decision e has | - |
| E, O | decisions, options | suffixes |

Decision e goes through its O_e options in a random order, then through them in another: path n is place n mod O_e of
the (n div O_e)-th order. Drawn independently, an option would wait 1 / chance paths in the mean, and often much longer.

Source: strict fairness of FairNAS, Chu et al. 2021. Deviation: one path a step; theirs takes all of a round at once.
"""

import torch
from torch import Tensor

from workers.bayes.randomness import slot_generator


def fair_choices(mask_EO: Tensor, seed: int, number: int) -> Tensor:
    """Return the options of path `number`, a function of the arguments alone: int64 [1, E], on the CPU.

    Args:
        mask_EO: Whether a decision has an option; at least one.
        seed: Of the run.
        number: n, from 0.
    """
    choices = []
    for decision, mask_O in enumerate(mask_EO.cpu()):
        options = torch.nonzero(mask_O).flatten()
        turn, place = divmod(number, len(options))
        order = torch.randperm(len(options), generator=slot_generator(seed, turn, decision, "fair"))
        choices.append(int(options[order[place]]))
    return torch.tensor([choices])
