"""What can be said of an architecture without running it. Free of torch."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from search_spaces.architecture import Architecture
from search_spaces.spec import Macro, SearchSpace, Skeleton

NUM_CLASSES: Final = 10
SIDES: Final[Mapping[Skeleton, int]] = {"cifar": 32, "imagenet": 224}


def traits_of(space: SearchSpace, arch: Architecture, macro: Macro) -> tuple[float, ...]:
    """Return the traits of a valid architecture in a skeleton, in the order of TRAITS.

    Costs are those at NUM_CLASSES classes and the skeleton's usual side, whatever the dataset: what a trait adds is
    learned from tasks of all sizes.

    Raises:
        InvalidArchitectureError: The architecture is not valid.
    """
    usual = replace(macro, num_classes=NUM_CLASSES, image_size=SIDES[macro.skeleton], auxiliary=False)
    depth, cost = space.depth(arch), space.cost(arch, usual)
    return depth.longest, depth.shortest, math.log(cost.params), math.log(cost.macs)
