"""The discrete network of one architecture."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from search_spaces.architecture import Architecture
from search_spaces.body import AuxiliaryBody
from search_spaces.errors import InvalidArchitectureError, InvalidOptionError, lookup
from search_spaces.modules import initialize
from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from search_spaces.supernet import BODIES

BODY_PREFIX = "body."
AUXILIARY_PREFIX = "body.auxiliary."


class Network(nn.Module):
    """Logits of images under one architecture; only ops that run have parameters.

    A parameter has the name that it has in the supernet, so weights pass from one to the other by name. Batch norm
    keeps running statistics, as in any network that is to be exported.

    Attributes:
        architecture: What was built.
        macro: The skeleton.
        num_features: F, the length of a feature vector.
        classifier: The head, [F] to [K].
    """

    def __init__(self, architecture: Architecture, macro: Macro) -> None:
        super().__init__()
        space = lookup(SPACES, architecture.space, kind="search space")
        if not space.is_valid(architecture):
            raise InvalidArchitectureError(
                "no network can be built", got=space.format(architecture), expected="a valid architecture"
            )
        self.architecture = architecture
        self.macro = macro
        self.body = lookup(BODIES, space.name, kind="search space")(macro, architecture, track_statistics=True)
        self.num_features = self.body.num_features
        self.classifier = nn.Linear(self.num_features, macro.num_classes)
        self._routes = self.body.routes(architecture)

    def features(self, images: Tensor) -> Tensor:
        """Return pooled features [N, F] of normalized images [N, C, H, W]."""
        # All activations follow the layout of the images: several times faster on a CPU.
        images = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.body(images, self._routes)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, K] of normalized images [N, C, H, W]."""
        logits: Tensor = self.classifier(self.features(images))
        return logits

    def forward_with_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [N, K] and the auxiliary head's logits [N, K], for training.

        Raises:
            InvalidOptionError: The network was built without an auxiliary head.
        """
        if not (self.macro.auxiliary and isinstance(self.body, AuxiliaryBody)):
            raise InvalidOptionError("macro.auxiliary", got=False, expected="true", todo="Build the network with it.")
        features, auxiliary_logits = self.body.forward_with_auxiliary(images, self._routes)
        return self.classifier(features), auxiliary_logits


def build_network(architecture: Architecture, macro: Macro, *, generator: torch.Generator | None = None) -> Network:
    """Return the network of an architecture with fresh weights.

    Args:
        architecture: A valid architecture.
        macro: The skeleton.
        generator: A CPU generator that draws every initial weight. None: torch's global one.

    Raises:
        InvalidArchitectureError: The architecture is not valid.
        InvalidOptionError: The space has no such skeleton.
    """
    with torch.device("meta"):
        network = Network(architecture, macro)
    initialize(network, generator)
    return network


def inherit(network: Network, parameters: Mapping[str, Tensor]) -> None:
    """Copy weights into a network by name, or by slices where the supernet shares them so; superfluous ones are left.

    Running statistics are not weights: `recalibrate` the network before it is evaluated. An auxiliary head, which no
    supernet has, keeps its own weights.

    Args:
        network: Changed in place.
        parameters: For instance `dict(supernet.named_parameters())`.

    Raises:
        InvalidOptionError: A parameter of the network is missing, or has another shape; nothing was copied.
    """
    of_body = {name.removeprefix(BODY_PREFIX): p for name, p in parameters.items() if name.startswith(BODY_PREFIX)}
    slices = {BODY_PREFIX + name: weight for name, weight in network.body.slices(of_body).items()}
    parameters = {**parameters, **slices}
    targets = {name: p for name, p in network.named_parameters() if not name.startswith(AUXILIARY_PREFIX)}
    missing = sorted(targets.keys() - parameters.keys())
    if missing:
        raise InvalidOptionError("parameters to inherit are missing", got=", ".join(missing))
    for name, target in targets.items():
        if parameters[name].shape != target.shape:
            raise InvalidOptionError(
                f"shape of {name}", got=list(parameters[name].shape), expected=str(list(target.shape))
            )
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(parameters[name])


def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of batch norm to the mean over batches of their statistics.

    Needs at least one batch. Modes and momenta are left as they were.

    Args:
        network: Changed in place.
        batches: Normalized images [N, C, H, W], on the network's device; never test images.

    Raises:
        InvalidOptionError: There was no batch.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    was_training = network.training
    num_batches = 0
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch: a cumulative mean over batches
        network.train()
        with torch.no_grad():
            for images in batches:
                network(images)
                num_batches += 1
    finally:
        network.train(was_training)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    if num_batches == 0:
        raise InvalidOptionError("batches to recalibrate batch norm on", got=0, expected="at least one")
