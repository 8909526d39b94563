"""The supernet: one network that holds every op of every cell, with shared weights."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn

from search_spaces.architecture import Architecture
from search_spaces.body import Body
from search_spaces.darts.body import DartsBody
from search_spaces.errors import InvalidOptionError, lookup
from search_spaces.mobile.body import MobileBody
from search_spaces.modules import initialize
from search_spaces.nas_bench_201.body import NasBench201Body
from search_spaces.registry import SPACES
from search_spaces.routes import OpWeights, check_op_weights
from search_spaces.spec import Macro, SearchSpace

__all__ = ["BODIES", "OpWeights", "Supernet", "build_supernet"]


class BodyFactory(Protocol):
    """Builds the body of a network: with all ops (no architecture), or with those of one architecture."""

    def __call__(self, macro: Macro, arch: Architecture | None, *, track_statistics: bool) -> Body:
        """Return the body."""


BODIES: Mapping[str, BodyFactory] = MappingProxyType(
    {"nas_bench_201": NasBench201Body, "darts": DartsBody, "mobile": MobileBody}
)


class Supernet(nn.Module):
    """Logits of images under weights on the options of every decision.

    The three forms of `op_weights` share one code path:

    - relaxed, [E, O] in the simplex: every op runs and adds weight * op(x);
    - straight-through, [E, O] one-hot: one op runs per decision, and gradient reaches its weight;
    - an `Architecture`: those ops alone, without a multiplication; the same value as its one-hot form.

    An option whose weight is exactly 0 is not run, nor is an op that no input reaches or no output needs. Batch norm
    always uses the statistics of its batch.

    Attributes:
        space: The search space.
        macro: The skeleton.
        num_features: F, the length of a feature vector.
        classifier: The task's head, [F] to [K].
    """

    def __init__(self, space: SearchSpace, macro: Macro, body: BodyFactory | None = None) -> None:
        super().__init__()
        if macro.auxiliary:
            raise InvalidOptionError("auxiliary head of a supernet", got=True, expected="false: only networks have one")
        self.space = space
        self.macro = macro
        factory = body or lookup(BODIES, space.name, kind="search space")
        self.body = factory(macro, None, track_statistics=False)
        self.num_features = self.body.num_features
        self.classifier = nn.Linear(self.num_features, macro.num_classes)

    def features(self, images: Tensor, op_weights: OpWeights) -> Tensor:
        """Return pooled features [N, F].

        Args:
            images: [N, C, H, W], normalized.
            op_weights: [E, O], which receives gradient, or an architecture.

        Raises:
            InvalidArchitectureError: An architecture of another space, or with an impossible choice.
            InvalidOptionError: Weights of another shape.
        """
        check_op_weights(op_weights, self.space)
        # All activations follow the layout of the images: several times faster on a CPU.
        images = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.body(images, self.body.routes(op_weights))
        return features

    def forward(self, images: Tensor, op_weights: OpWeights) -> Tensor:
        """Return logits [N, K]; arguments as for `features`."""
        logits: Tensor = self.classifier(self.features(images, op_weights))
        return logits


def build_supernet(
    space_name: str, macro: Macro, *, generator: torch.Generator | None = None, body: BodyFactory | None = None
) -> Supernet:
    """Return a supernet with fresh weights.

    Args:
        space_name: A name in `SPACES`.
        macro: The skeleton.
        generator: A CPU generator that draws every initial weight. None: torch's global one.
        body: Another body than the space's usual one, such as one that shares weights. None: the usual one.

    Raises:
        UnknownNameError: No such search space.
        InvalidOptionError: The space has no such skeleton.
    """
    space = lookup(SPACES, space_name, kind="search space")
    with torch.device("meta"):
        supernet = Supernet(space, macro, body)
    initialize(supernet, generator)
    return supernet
