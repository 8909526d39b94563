"""One point of a search space."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """The option taken at every decision of a search space. Hashable, free of torch.

    Attributes:
        space: Name of the search space.
        choices: Index of the chosen option, one per decision, in the order of the space's `decisions`.
    """

    space: str
    choices: tuple[int, ...]

    def changed(self, decision: int, option: int) -> "Architecture":
        """Return the architecture that takes another option at one decision; it may not be valid."""
        return Architecture(self.space, (*self.choices[:decision], option, *self.choices[decision + 1 :]))
