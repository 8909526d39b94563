"""Architectures within limits on cost: the posterior tilted until what it draws fits.

Of all distributions with a given expected (additive) cost, q_lambda(z) ~ q(z) exp(-lambda c(z)) is the closest to q in
KL: it minimizes KL(q' || q) + lambda E_q'[c]. So lambda plays the part of a soft penalty on the expected cost while
searching. Costs add only where no edge is dead: each draw is checked by the real cost of its connected network.

A prior may have ruled options out, because it has not learned their weights. Where no architecture of the others fits,
they are let in again, as unlikely ones.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from search_spaces.architecture import Architecture
from search_spaces.spec import Cost, Macro, SearchSpace
from workers.adapt.plan import given_architecture, takes_published
from workers.bayes.relaxation import sample_choices
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.errors import LimitUnreachableError
from workers.priors.model import possible_options, uniform_logits

TILTS: Final = (0.0, *(2.0**power for power in range(-1, 10)))
NUM_PROBES: Final = 60
NUM_BASES: Final = 3
# Draws are affordable as long as one in twenty fits.
LEAST_SHARE: Final = 0.05
# Of an option that is let in again, below the least likely possible one of its decision, in nats.
UNLIKELY: Final = 8.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Largest cost of the exported network; None: no limit."""

    max_params: int | None = None
    max_macs: int | None = None

    @property
    def any(self) -> bool:
        return self.max_params is not None or self.max_macs is not None

    def excess(self, cost: Cost) -> float:
        """Return the cost in units of the limit, the larger of the two; at most 1 means within."""
        params = 0.0 if self.max_params is None else cost.params / self.max_params
        macs = 0.0 if self.max_macs is None else cost.macs / self.max_macs
        return max(params, macs)


class Feasible:
    """Draws valid architectures within limits from option logits.

    Args:
        space: Where architectures come from.
        macro: The skeleton that costs are counted in.
        limits: On the exported network.
    """

    def __init__(self, space: SearchSpace, macro: Macro, limits: Limits) -> None:
        self._space, self._macro, self.limits = space, macro, limits
        self._costs: dict[Architecture, float] = {}
        self._mask_EO = torch.tensor(space.option_mask)
        self.restart()
        self._slope_EO = self._marginal_costs() if limits.any else None

    def restart(self) -> None:
        """Forget how far the logits so far had to be tilted: the next are others."""
        self._tilt = 0  # logits move slowly: the next tilt is hardly ever less than the last
        self._lets_in: bool | None = None

    def fits(self, arch: Architecture) -> bool:
        """Return whether the architecture is valid and its connected network within the limits."""
        if not self._space.is_valid(arch):
            return False
        return not self.limits.any or self._excess(arch) <= 1.0

    def tilt(self, logits_EO: Tensor, generator: torch.Generator) -> Tensor:
        """Return the logits, tilted by the least lambda at which enough draws fit; unchanged without limits."""
        if self._slope_EO is None:
            return logits_EO
        if self._lets_in is None:
            self._lets_in = self._fitting_mode(logits_EO) is None
        known_EO = self._let_in(logits_EO) if self._lets_in else logits_EO
        for tilt in TILTS[self._tilt :]:
            tilted_EO = known_EO - tilt * self._slope_EO
            draws = self._draw(tilted_EO, NUM_PROBES, generator)
            if sum(self.fits(arch) for arch in draws) >= LEAST_SHARE * NUM_PROBES:
                break
            self._tilt = min(self._tilt + 1, len(TILTS) - 1)
        return tilted_EO

    def sample(self, tilted_EO: Tensor, number: int, generator: torch.Generator) -> list[Architecture]:
        """Return up to `number` different architectures that fit, in the order drawn; fewer where few exist."""
        found: dict[Architecture, None] = {}
        for _ in range(50):
            found.update(
                dict.fromkeys(arch for arch in self._draw(tilted_EO, NUM_PROBES, generator) if self.fits(arch))
            )
            if len(found) >= number:
                break
        return list(found)[:number] or [self.mode(tilted_EO)]

    def paths(self, tilted_EO: Tensor, generator: torch.Generator) -> Iterator[Architecture]:
        """Yield architectures that fit, one after another, repeats allowed."""
        while True:
            drawn = [arch for arch in self._draw(tilted_EO, 16, generator) if self.fits(arch)]
            yield from drawn or [self.mode(tilted_EO)]

    def mode(self, logits_EO: Tensor) -> Architecture:
        """Return the most likely architecture of the least tilted logits whose mode fits.

        Where there is none, one with options that are let in again: nothing is known of those, so the one that makes
        most of the limits. Else one of the cheapest.

        Raises:
            LimitUnreachableError: None does.
        """
        return self._fitting_mode(logits_EO) or self._most(self._let_in(logits_EO))

    def this_or_largest(self, arch: Architecture) -> Architecture:
        """Return an architecture if it fits; else the one that makes most of the limits, or one of the cheapest.

        Raises:
            LimitUnreachableError: None does.
        """
        return arch if self.fits(arch) else self._most(uniform_logits(self._space))

    def fixed(self, request: AdaptationRequest) -> Architecture | None:
        """Return what is trained without a look at the data: the given or published one; None where one is chosen.

        Args:
            request: What was asked, with these limits; `prior` is resolved.

        Raises:
            InvalidOptionError: `given` without an architecture, or an architecture without `given`.
            InvalidArchitectureError: The space cannot read the given one.
            LimitUnreachableError: Nothing is within the limits.
        """
        return (
            self.this_or_largest(self._space.published()) if takes_published(request) else given_architecture(request)
        )

    def _most(self, logits_EO: Tensor) -> Architecture:
        arch = self._largest(logits_EO)
        if arch is not None:
            return arch
        # What is cheapest of all can owe it to decisions that only together save anything.
        if fitting := [arch for arch in self._space.cheapest() if self.fits(arch)]:
            return fitting[0]
        smallest = self._space.minimum_cost(self._macro)
        raise LimitUnreachableError(
            "no architecture was found within the limits",
            got=f"max_params {self.limits.max_params}, max_macs {self.limits.max_macs}",
            expected=f"at least {smallest.params} parameters and {smallest.macs} MACs",
        )

    def _fitting_mode(self, logits_EO: Tensor) -> Architecture | None:
        scores_EO = torch.log_softmax(logits_EO, dim=-1)
        for tilt in TILTS if self._slope_EO is not None else (0.0,):
            tilted_EO = scores_EO if self._slope_EO is None else scores_EO - tilt * self._slope_EO
            arch = self._space.discretize(tilted_EO.tolist())
            if self.fits(arch):
                return arch
        return None

    def _largest(self, logits_EO: Tensor) -> Architecture | None:
        """Return the costliest that fits of many that are drawn, each decision changed once more if that costs more."""
        generator = torch.Generator().manual_seed(0)
        slope_EO = torch.zeros_like(logits_EO) if self._slope_EO is None else self._slope_EO
        drawn = [arch for tilt in TILTS for arch in self._draw(logits_EO - tilt * slope_EO, NUM_PROBES, generator)]
        largest = max((arch for arch in drawn if self.fits(arch)), key=self._excess, default=None)
        if largest is None:
            return None
        changes = self._mask_EO.nonzero().tolist()
        for place in torch.randperm(len(changes), generator=generator).tolist():
            changed = largest.changed(*changes[place])
            if self.fits(changed) and self._excess(changed) > self._excess(largest):
                largest = changed
        return largest

    def _let_in(self, logits_EO: Tensor) -> Tensor:
        """Return the logits with the options that are ruled out let in again, as unlikely ones."""
        possible_EO = possible_options(logits_EO)
        least_E1 = torch.where(possible_EO, logits_EO, math.inf).min(dim=1, keepdim=True).values
        return torch.where(self._mask_EO & ~possible_EO, least_E1 - UNLIKELY, logits_EO)

    def _draw(self, logits_EO: Tensor, number: int, generator: torch.Generator) -> list[Architecture]:
        rows = sample_choices(logits_EO, generator, number).tolist()
        return [Architecture(self._space.name, tuple(row)) for row in rows]

    def _excess(self, arch: Architecture) -> float:
        if arch not in self._costs:
            self._costs[arch] = self.limits.excess(self._space.cost(arch, self._macro))
        return self._costs[arch]

    def _marginal_costs(self) -> Tensor:
        """Return [E, O]: what an option adds to the cost over the cheapest of its decision, in units of the limit.

        Means over a few drawn architectures, in each of which one decision at a time takes all its options: for
        additive costs the differences are exact.
        """
        generator = torch.Generator().manual_seed(0)
        uniform_EO = uniform_logits(self._space)
        sums_EO = torch.zeros_like(uniform_EO)
        counts_EO = torch.zeros_like(uniform_EO)
        for base in self._sample_valid(uniform_EO, NUM_BASES, generator):
            for decision, options in enumerate(self._space.option_mask):
                costs = {}
                for option in (number for number, exists in enumerate(options) if exists):
                    arch = base.changed(decision, option)
                    if self._space.is_valid(arch):
                        costs[option] = self._excess(arch)
                for option, cost in costs.items():
                    sums_EO[decision, option] += cost - min(costs.values())
                    counts_EO[decision, option] += 1
        return sums_EO / counts_EO.clamp_min(1)

    def _sample_valid(self, logits_EO: Tensor, number: int, generator: torch.Generator) -> list[Architecture]:
        """Return `number` valid architectures, whatever they cost."""
        found: list[Architecture] = []
        while len(found) < number:
            found += [arch for arch in self._draw(logits_EO, 16, generator) if self._space.is_valid(arch)]
        return found[:number]
