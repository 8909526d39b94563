"""Domains as `python -m benchmarks.domains` left them in a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.domains.domain import CARD, SPLIT, DomainCard, split_name
from search_spaces.errors import InvalidOptionError, lookup
from workers.tasks.class_split import ClassSplit


@dataclass(frozen=True, kw_only=True)
class WrittenDomain:
    """A domain that priors may learn from.

    Attributes:
        card: Of the domain.
        path: Of its packed file.
        split: Which of its classes are for what.
    """

    card: DomainCard
    path: Path
    split: ClassSplit


def learnable(folder: Path, names: Sequence[str] = (), without: str | None = None) -> list[WrittenDomain]:
    """Return the domains of a folder that priors may learn from, by name.

    Args:
        folder: Of `python -m benchmarks.domains`.
        names: Those wanted; none: all of them.
        without: A mark, whose classes are left out where a domain has any.

    Raises:
        UnknownNameError: The folder has no such domain to learn from.
        InvalidOptionError: No domain has that mark.
    """
    found = {}
    for path in sorted(folder.glob(f"*/{CARD}")):
        card = DomainCard.from_stored(path.read_bytes(), str(path))
        if card.num_classes:
            found[card.name] = card
    chosen = {name: lookup(found, name, kind="domain to learn from") for name in names} or found
    if without is not None and not any(without in card.marks for card in chosen.values()):
        known = sorted({mark for card in chosen.values() for mark in card.marks})
        raise InvalidOptionError("no domain has classes of this mark", got=without, expected=", ".join(known))
    return [
        WrittenDomain(
            card=card,
            path=folder / name / f"{name}.npz",
            split=ClassSplit.read(folder / name / (split_name(without) if without in card.marks else SPLIT)),
        )
        for name, card in chosen.items()
    ]
