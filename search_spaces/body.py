"""A network without its classifier: what a supernet and a discrete network have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from search_spaces.routes import OpWeights, Routes


class Body(nn.Module, ABC):
    """Images to features. A supernet's body holds every op, a discrete network's only those that run.

    Attributes:
        num_features: F, the length of a feature vector.
    """

    num_features: int

    @abstractmethod
    def routes(self, op_weights: OpWeights) -> Routes:
        """Return what runs in each kind of cell, for [E, O] weights or one architecture."""

    @abstractmethod
    def forward(self, images: Tensor, routes: Routes) -> Tensor:
        """Return features [N, F] of images [N, C, H, W]."""

    def slices(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002 (most spaces share none)
        """Return those weights of this body that a supernet's body holds only as slices of larger ones.

        Args:
            parameters: Of the supernet's body, by name.

        Returns:
            Weights by their names here; none where every op has weights of its own.
        """
        return {}


class AuxiliaryBody(Body):
    """A body that may have a second classifier on a middle cell, for training."""

    @abstractmethod
    def forward_with_auxiliary(self, images: Tensor, routes: Routes) -> tuple[Tensor, Tensor]:
        """Return features [N, F] and the logits of the auxiliary head [N, K]."""
