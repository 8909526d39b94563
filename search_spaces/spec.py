"""What a search space is: its decisions, the skeleton around its cells, what a network of it costs."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidOptionError

Skeleton = Literal["cifar", "imagenet"]
SMALLEST_IMAGE = 8


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One categorical choice, such as the op of an edge, and the names of its options."""

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Macro:
    """Everything of a network but its cell.

    Attributes:
        skeleton: The stem and the resolution it is made for: `cifar` keeps small images at full resolution.
        num_channels: Channels of the first cells; later stages have multiples of them.
        num_cells: Cells per stage (`nas_bench_201`) or in all (`darts`), as in the literature of the space; how many
            times the layers of a stage after its first follow each other (`mobile`).
        num_classes: Outputs of the classifier.
        image_size: Side of the square images, in pixels.
        image_channels: Channels of the images.
        auxiliary: Whether a second classifier reads a middle cell while training. Never part of the cost.

    Raises:
        InvalidOptionError: A value is out of its range.
    """

    skeleton: Skeleton = "cifar"
    num_channels: int
    num_cells: int
    num_classes: int
    image_size: int
    image_channels: int = 3
    auxiliary: bool = False

    def __post_init__(self) -> None:
        if self.skeleton not in get_args(Skeleton):
            raise InvalidOptionError("unknown skeleton", got=self.skeleton, expected="cifar or imagenet")
        smallest = {"num_channels": 1, "num_cells": 1, "num_classes": 2, "image_size": SMALLEST_IMAGE}
        for name, least in {**smallest, "image_channels": 1}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise InvalidOptionError(f"macro.{name}", got=value, expected=f"a whole number of at least {least}")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Parameters of a network, and multiply-accumulates for one image (convolutions and linear layers only)."""

    params: int
    macs: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(params=self.params + other.params, macs=self.macs + other.macs)


@dataclass(frozen=True, kw_only=True)
class Depth:
    """Ops with weights on the way through a cell, or through all layers where there are no cells.

    Attributes:
        longest: On the way that has most of them.
        shortest: On the way that has fewest: 0 where skips alone lead through, so that a deep stack can be trained.
    """

    longest: float
    shortest: float


def least(costs: Iterable[Cost]) -> Cost:
    """Return the smallest params and the smallest macs of some costs, each on its own."""
    listed = list(costs)
    return Cost(params=min(cost.params for cost in listed), macs=min(cost.macs for cost in listed))


class SearchSpace(Protocol):
    """A set of architectures: how they are written, which are valid, what they cost, how they look."""

    @property
    def name(self) -> str:
        """The name in the registry."""

    @property
    def title(self) -> str:
        """The name for people, with the source."""

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """All choices, in the order of an architecture's `choices`."""

    @property
    def num_decisions(self) -> int:
        """E, the number of decisions."""

    @property
    def num_options(self) -> int:
        """O, the largest number of options of any decision."""

    @property
    def option_mask(self) -> tuple[tuple[bool, ...], ...]:
        """[E, O]: True where the decision has that option, False where the table is padded."""

    @property
    def num_architectures(self) -> float:
        """How many different valid architectures there are."""

    def default_macro(self, *, num_classes: int, image_size: int) -> Macro:
        """Return a skeleton small enough to be searched on two CPU cores."""

    def parse(self, document: str | Mapping[str, object]) -> Architecture:
        """Return the architecture that a string form, or the literature's JSON form with `space`, describes.

        Raises:
            InvalidArchitectureError: The document cannot be read, or the space cannot express it.
        """

    def format(self, arch: Architecture) -> str:
        """Return the one-line string form; `parse(format(a)) == a`."""

    def to_json(self, arch: Architecture) -> dict[str, object]:
        """Return the literature's JSON form with `space`; `parse(to_json(a)) == a`."""

    def is_valid(self, arch: Architecture) -> bool:
        """Return whether a network can be built: its output depends on its input, and the space's rules hold."""

    def discretize(self, scores: Sequence[Sequence[float]]) -> Architecture:
        """Return the valid architecture with the largest sum of scores.

        Args:
            scores: [E, O] logits or log-probabilities: then the sum is the log-probability up to a constant. Padded
                entries are ignored. Ties go to the lower index.

        Raises:
            InvalidOptionError: The table has another shape, or holds NaN.
        """

    def cost(self, arch: Architecture, macro: Macro) -> Cost:
        """Return the exact cost of the connected network (dead ops removed, no auxiliary head) for one image.

        Raises:
            InvalidArchitectureError: The architecture is not valid.
            InvalidOptionError: The space has no such skeleton.
        """

    def depth(self, arch: Architecture) -> Depth:
        """Return how deep a cell is; the mean over a space's kinds of cells.

        Raises:
            InvalidArchitectureError: The architecture is not valid.
        """

    def connected(self, arch: Architecture) -> Architecture:
        """Return the same network's architecture with `none` wherever an op is on no way from input to output.

        Raises:
            InvalidArchitectureError: The architecture is not valid.
        """

    def signature(self, arch: Architecture) -> Hashable:
        """Return what is equal for architectures whose networks compute the same, in another order or beside dead ops.

        Raises:
            InvalidArchitectureError: The architecture is not valid.
        """

    def cheapest(self) -> tuple[Architecture, ...]:
        """Return valid architectures among which are one of least params and one of least macs, in any skeleton."""

    def published(self) -> Architecture:
        """Return a plain architecture of published cells or blocks: what is trained where nothing is known."""

    def minimum_cost(self, macro: Macro) -> Cost:
        """Return the smallest params and the smallest macs over all valid architectures, each on its own."""

    def draw_text(self, arch: Architecture) -> str:
        """Return a drawing for a terminal of 80 columns."""

    def draw_svg(self, arch: Architecture) -> str:
        """Return a drawing as an SVG document."""
