"""What a prior's trials say of architectures on this dataset, and the best of them that they foretell."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Self

import torch
from torch import Tensor

from search_spaces.architecture import Architecture
from search_spaces.spec import Macro, SearchSpace
from workers.adapt.data import TaskData
from workers.adapt.limits import Feasible
from workers.adapt.sync import Group
from workers.contracts.loss_model import LossModel, TrialFindings
from workers.priors.loss_model import option_logits, predict
from workers.priors.model import ruled_out, uniform_logits
from workers.tasks.description import describe, length_entry

# For each place on a shortlist: from either distribution, and of changes in a round. A DARTS cell takes 4 ms to count.
DRAWN_PER_PLACE: Final = 8
NUM_ROUNDS: Final = 6
# Of the longest trials: what is said of them is said of all longer trainings.
FARTHEST: Final = 8


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """A prior that has read a dataset.

    Attributes:
        findings: Of the prior's trials.
        description: Of the dataset and the length of the training, by entry.
        space: Of the architectures.
        macro: The skeleton.
        possible: Options [E, O] that the prior has not ruled out.
    """

    findings: TrialFindings
    description: dict[str, float]
    space: SearchSpace
    macro: Macro
    possible: Tensor

    @classmethod
    def of(
        cls,
        findings: TrialFindings,
        data: TaskData,
        space: SearchSpace,
        macro: Macro,
        *,
        num_steps: int,
        num_examples: int | None = None,
        possible: Tensor | None = None,
        group: Group | None = None,
    ) -> Self:
        """Return what trials say of a dataset; all ranks of a group go by what rank 0 sees.

        Args:
            findings: Of the prior's trials.
            data: The dataset.
            space: Of the architectures.
            macro: The skeleton.
            num_steps: That a network of typical cost is going to be trained for.
            num_examples: Images that it is going to be trained on; None: all to learn from and to choose by.
            possible: Options [E, O] that the prior has not ruled out; None: all.
            group: Of the ranks.
        """
        if possible is None:
            possible = torch.tensor(space.option_mask)
        found = describe(
            data.support.images,
            data.support.labels,
            num_ways=macro.num_classes,
            num_examples=num_examples or len(data.support) + len(data.query),
            resolution=macro.image_size,
            num_steps=_within(num_steps, findings),
        )
        agree = (group or Group()).agree
        description = {name: agree(value) for name, value in found.items()}
        return cls(findings=findings, description=description, space=space, macro=macro, possible=possible)

    def trained_for(self, num_steps: int) -> Self:
        """Return the same for a training of another length."""
        length = length_entry(_within(num_steps, self.findings))
        return replace(self, description={**self.description, "training_steps": length})

    @cached_property
    def option_logits(self) -> Tensor:
        """alpha(D) [E, O]."""
        return option_logits(self.findings.chooses, self.space, self.macro, self.description, possible_EO=self.possible)

    def foretell(self, archs: Sequence[Architecture], one_shot: Sequence[float] | None = None) -> Tensor:
        """Return the losses [A] after training, in units of what a trial scatters; only differences mean anything.

        Args:
            archs: At least one.
            one_shot: Their losses before it, in units of the logarithm of the number of classes, if they are known.
        """
        model: LossModel = self.findings.chooses
        if one_shot is not None and self.findings.ranks is not None:
            model = self.findings.ranks
        return predict(model, self.space, self.macro, archs, self.description, one_shot)

    def shortlist(self, feasible: Feasible, number: int, generator: torch.Generator) -> list[Architecture]:
        """Return different networks within the limits whose losses are foretold to be least, best first.

        Drawn from alpha(D) and uniformly, then improved by changes of one decision at a time.

        Args:
            feasible: Limits.
            number: How many; fewer where few exist.
            generator: Of the draws.
        """
        if number < 1:
            return []
        draws = number * DRAWN_PER_PLACE
        logits = (self.option_logits, ruled_out(uniform_logits(self.space), self.possible))
        drawn = []
        for one in logits:
            feasible.restart()
            drawn.append(feasible.sample(feasible.tilt(one, generator), draws, generator))
        known = self._foretold(dict.fromkeys(arch for archs in drawn for arch in archs))
        for _ in range(NUM_ROUNDS):
            parents = self._best(known, number)
            children = [arch for parent in parents for arch in self._neighbors(parent) if arch not in known]
            order = torch.randperm(len(children), generator=generator).tolist()[:draws]
            new = [child for child in dict.fromkeys(children[place] for place in order) if feasible.fits(child)]
            if not new:
                break
            before = min(known.values())
            known |= self._foretold(new)
            if min(known.values()) >= before and len(self._best(known, number)) >= number:
                break
        return self._best(known, number)

    def _best(self, known: Mapping[Architecture, float], number: int) -> list[Architecture]:
        """Return those whose losses are least, best first; one of those that compute the same."""
        networks: dict[Hashable, Architecture] = {}
        for arch in sorted(known, key=known.__getitem__):
            networks.setdefault(self.space.signature(arch), arch)
        return list(networks.values())[:number]

    def _foretold(self, archs: Iterable[Architecture]) -> dict[Architecture, float]:
        listed = list(archs)
        return dict(zip(listed, self.foretell(listed).tolist(), strict=True))

    def _neighbors(self, arch: Architecture) -> list[Architecture]:
        """Return the valid architectures of possible options that differ in one decision."""
        found = []
        for decision, options in enumerate(self.possible.tolist()):
            for option, is_possible in enumerate(options):
                if is_possible and option != arch.choices[decision]:
                    changed = arch.changed(decision, option)
                    if self.space.is_valid(changed):
                        found.append(changed)
        return found


def _within(num_steps: int, findings: TrialFindings) -> int:
    """Return the steps of a training, but no more than trials can speak of."""
    return min(num_steps, FARTHEST * findings.config.num_steps)
