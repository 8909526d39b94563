"""Which architecture to train from scratch: what a prior's trials foretell, put to the test on the dataset itself.

For people who train elsewhere, for longer: nothing is searched in a supernet, no network is exported. The prior's
trials began with fresh weights; so do the trials here, in the same skeleton and for as long as its shortest.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from search_spaces.architecture import Architecture
from search_spaces.network import build_network
from workers.adapt.data import TaskData
from workers.adapt.knowledge import Knowledge
from workers.adapt.limits import Feasible
from workers.bayes.randomness import slot_generator
from workers.priors.loss_model import typical_macs
from workers.training.abreast import as_many_as_fit
from workers.training.brief import judge, train_briefly
from workers.training.budget import Budget
from workers.training.cost import steps_in_equal_time

# More than two threads can try in a minute.
SHORTLIST: Final = 24


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A shortlisted architecture.

    Attributes:
        architecture: What was tried.
        foretold: Its loss after the training to come by the prior's trials, in units of what a trial scatters; only
            differences mean anything.
        measured: By its own trial here, in the same unit.
        expected: What is foretold, corrected by half of what its trial here said otherwise: one trial scatters as much
            about the truth as the model does.
        accuracy: On held-out images, after that trial, 0 to 1.
    """

    architecture: Architecture
    foretold: float
    measured: float
    expected: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """What to train.

    Attributes:
        architecture: The one of least expected loss among those tried; without a trial, the one foretold to be best.
        tried: In the order in which they ended.
    """

    architecture: Architecture
    tried: tuple[Tried, ...]


def recommend(
    knowledge: Knowledge,
    data: TaskData,
    feasible: Feasible,
    budget: Budget,
    *,
    seed: int,
    on_tried: Callable[[Tried], None] = lambda _: None,
) -> Recommendation:
    """Return the architecture to train from scratch on a dataset.

    Args:
        knowledge: Of a prior whose trials began with fresh weights; it says how long the training will be.
        data: The dataset; its test images are not looked at.
        feasible: Limits.
        budget: As many trials as torch has threads run at once, one alone on a GPU; another is begun as long as one of
            the mean length so far would end within it.
        seed: Of all draws.
        on_tried: Told each trial.
    """
    trials = knowledge.findings.config
    shortlist = knowledge.shortlist(feasible, SHORTLIST, slot_generator(seed, 0, 0, "shortlist"))
    foretold = knowledge.foretell(shortlist).tolist()
    short_steps = trials.fewest_steps
    foretold_here = knowledge.trained_for(short_steps).foretell(shortlist).tolist()

    def try_out(number: int) -> Tried | None:
        arch = shortlist[number]
        network = build_network(arch, knowledge.macro, generator=slot_generator(seed, number, 0, "weights"))
        network.to(data.support.labels.device)
        num_steps = short_steps
        if trials.length == "seconds":
            space, macro = knowledge.space, knowledge.macro
            num_steps = steps_in_equal_time(num_steps, space.cost(arch, macro).macs, typical_macs(space.name, macro))
        steps = train_briefly(
            network,
            data.support.images,
            data.support.labels,
            side=knowledge.macro.image_size,
            num_steps=num_steps,
            batch_size=trials.batch_size,
            flip=knowledge.findings.flip,
            generator=slot_generator(seed, 0, 0, "recommend"),
            keep_on=lambda: budget.remaining_s > 0,
        )
        if steps < num_steps:
            return None
        judged_on = data.query.first(trials.num_query)
        loss, accuracy = judge(network, judged_on.images, judged_on.labels, knowledge.macro.image_size)
        if not math.isfinite(loss):
            return None
        measured = (1 - accuracy) / knowledge.findings.chooses.noise
        surprise = measured - foretold_here[number]
        return Tried(
            architecture=arch,
            foretold=foretold[number],
            measured=measured,
            expected=foretold[number] + surprise / 2,
            accuracy=accuracy,
        )

    # What runs side by side on a GPU waits for each other.
    at_once = 1 if data.support.labels.is_cuda else torch.get_num_threads()
    tried: list[Tried] = []
    for _, one in as_many_as_fit(try_out, range(len(shortlist)), budget, at_once=at_once, least_share=1.0):
        if one is not None:
            tried.append(one)
            on_tried(one)
    # Of equals the one foretold to be better, whichever ended first.
    expected = {one.architecture: one.expected for one in tried}
    ended = [arch for arch in shortlist if arch in expected]
    best = min(ended, key=expected.__getitem__, default=shortlist[0])
    return Recommendation(architecture=best, tried=tuple(tried))
