"""A race of the few best candidates: each is trained for a moment as it would be trained in the end.

One-shot scores see neither how fast an architecture learns nor how many steps the budget affords it: a cheap one takes
more of them in the same seconds. Every finalist gets the same seconds, turned into steps by its cost, so that the
outcome follows from seed and plan. The winner's training goes on from where the race left it: only the losers' seconds
are lost.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch.nn.functional as F
from torch import Tensor

from search_spaces.architecture import Architecture
from search_spaces.network import Network
from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from workers.adapt.choice import Score, inherited_network, predict
from workers.adapt.data import TaskData
from workers.adapt.final import train_network
from workers.adapt.limits import Feasible, Limits
from workers.adapt.plan import NUM_FINALISTS
from workers.adapt.sync import Group
from workers.contracts.adaptations import Plan
from workers.contracts.errors import LimitUnreachableError
from workers.priors.model import possible_options
from workers.training.cost import steps_in_equal_time

# Of the mode's MACs: the most likely architectures at these costs race too.
THRIFTY_SHARES: Final = (0.65, 0.4)


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A raced network, and its score on all held-out images."""

    network: Network
    score: Score


def thrifty_modes(mode: Architecture, logits_EO: Tensor, macro: Macro, limits: Limits) -> list[Architecture]:
    """Return the most likely architectures at shares of the mode's MACs, within the limits, as far as possible."""
    space = SPACES[mode.space]
    macs = space.cost(mode, macro).macs
    possible_EO = possible_options(logits_EO).tolist()
    found = []
    for share in THRIFTY_SHARES:
        bound = int(share * macs) if limits.max_macs is None else min(int(share * macs), limits.max_macs)
        try:
            within = Feasible(space, macro, Limits(max_params=limits.max_params, max_macs=max(1, bound)))
            arch = within.mode(logits_EO)
        except LimitUnreachableError:
            continue
        if all(possible_EO[decision][option] for decision, option in enumerate(arch.choices)):
            found.append(arch)
    return found


def race(
    sources: Mapping[Architecture, str],
    reference: Architecture,
    parameters: Mapping[str, Tensor],
    macro: Macro,
    data: TaskData,
    plan: Plan,
    group: Group,
    *,
    elapsed_s: Callable[[], float],
    on_step: Callable[[int, float], None],
) -> list[Finalist]:
    """Return the finalists, trained from inherited weights for the plan's seconds each.

    Args:
        sources: Architectures, and where each comes from.
        reference: Whose steps the plan counts.
        parameters: Of the supernet, to inherit.
        macro: The skeleton.
        data: The dataset.
        plan: Steps and seconds of the race.
        group: Ranks that train together.
        elapsed_s: The clock, which cuts a finalist at twice its seconds.
        on_step: Told step and loss.
    """
    space = SPACES[reference.space]
    reference_macs = space.cost(reference, macro).macs
    patience_s = 2 * plan.race_s / NUM_FINALISTS
    finalists: list[Finalist] = []
    for arch, source in sources.items():
        network = inherited_network(arch, macro, parameters, data)
        steps = steps_in_equal_time(plan.race_steps, space.cost(arch, macro).macs, reference_macs)
        train_network(
            network,
            data.support,
            plan.model_copy(update={"max_train_steps": steps}),
            group,
            purpose="race",
            share_of_time=_share(elapsed_s, patience_s),
            on_step=on_step,
        )
        logits_NK = predict(network, data.query)
        finalists.append(
            Finalist(
                network=network,
                score=Score(
                    architecture=arch,
                    source=f"{source}, raced {steps} steps",
                    losses_N=F.cross_entropy(logits_NK, data.query.labels, reduction="none"),
                    accuracy=float((logits_NK.argmax(dim=1) == data.query.labels).double().mean()),
                ),
            )
        )
    return finalists


def _share(elapsed_s: Callable[[], float], total_s: float) -> Callable[[], float]:
    """Return a function that tells the share of `total_s` that has passed since now."""
    since_s = elapsed_s()
    return lambda: (elapsed_s() - since_s) / total_s
