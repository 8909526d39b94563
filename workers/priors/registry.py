"""Which meta-priors there are: those bundled with the package and those in the store. Free of torch."""

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from search_spaces.errors import UnknownNameError
from workers.contracts.errors import InvalidPriorError, NewerFormatError, ObjectMissingError
from workers.contracts.priors import PRIOR_ID, PriorCard
from workers.store import layout
from workers.store.protocol import Store

CARD: Final = "card.json"
TENSORS: Final = "prior.safetensors"
# What a request gets that names a space but no prior, until another one is promoted.
DEFAULTS: Final[Mapping[str, str]] = {
    "darts": "darts-v1",
    "mobile": "mobile-v1",
    "nas_bench_201": "nas_bench_201-v4",
}
_ID = re.compile(PRIOR_ID)


class PriorRegistry:
    """Finds the bytes of meta-priors by id, for jobs. A bundled id cannot be shadowed by a stored one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def card(self, prior_id: str) -> PriorCard:
        """Return one prior's card.

        Raises:
            UnknownNameError: No prior bears that id.
            InvalidPriorError: Its card cannot be read.
        """
        if prior_id in bundled_cards():
            return bundled_cards()[prior_id]
        if not _ID.fullmatch(prior_id):
            raise self._unknown(prior_id)
        try:
            return parse_card(self._store.get_bytes(f"{layout.prior(prior_id)}/{CARD}"), prior_id)
        except ObjectMissingError:
            raise self._unknown(prior_id) from None

    def fetch(self, prior_id: str, folder: Path) -> Path:
        """Return the local path of a prior's tensors, copied into `folder` where they lie in the store.

        Raises:
            UnknownNameError: No prior bears that id.
            InvalidPriorError: Its tensors are not those that its card names.
        """
        if prior_id in bundled_cards():
            return bundled_folder() / prior_id / TENSORS
        path = folder / f"{prior_id}.safetensors"
        card = self.card(prior_id)
        try:
            self._store.get_file(f"{layout.prior(prior_id)}/{TENSORS}", path)
        except ObjectMissingError:
            raise self._unknown(prior_id) from None
        if hashlib.sha256(path.read_bytes()).hexdigest() != card.sha256:
            raise InvalidPriorError(
                f"the tensors of prior {prior_id} are not those of its card", todo="Put both files there once more."
            )
        return path

    def _ids(self) -> tuple[str, ...]:
        keys = [item.key.split("/") for item in self._store.list("priors/")]
        stored = {key[1] for key in keys if len(key) == 3 and key[2] == CARD and _ID.fullmatch(key[1])}
        return (*bundled_cards(), *sorted(stored - bundled_cards().keys()))

    def _unknown(self, prior_id: str) -> UnknownNameError:
        known = ", ".join(self._ids()) or "none yet"
        return UnknownNameError(
            "unknown prior",
            got=prior_id,
            expected=f"one of {known}, or 'none'",
            todo="Name a known prior, or 'none' to begin with random weights.",
        )


def parse_card(data: bytes, place: str, *, any_id: bool = False) -> PriorCard:
    """Return the card that `card.json` holds.

    Args:
        data: Of the file.
        place: Where it was found; the prior's id, unless `any_id`.
        any_id: Whether the card may name another prior than `place`: one of a user's own, in any folder.

    Raises:
        InvalidPriorError: It cannot be read, or names another prior.
    """
    try:
        card = PriorCard.from_stored(data, f"the card of prior {place}")
    except NewerFormatError as error:
        raise InvalidPriorError(error.what, got=error.got, expected=error.expected, todo=error.todo) from error
    except ValidationError as error:
        raise InvalidPriorError(f"the card of prior {place} cannot be read: {error}") from error
    if card.id != place and not any_id:
        raise InvalidPriorError(f"the card of prior {place} names another prior", got=card.id, expected=place)
    return card


def bundled_folder() -> Path:
    """Return the folder that holds one folder per bundled prior."""
    return Path(str(resources.files("workers.priors"))) / "bundled"


def bundled_default(space_name: str) -> str | None:
    """Return the id of the bundled prior that a space begins from, or None where it has none."""
    default = DEFAULTS.get(space_name)
    return default if default in bundled_cards() else None


@cache
def bundled_cards() -> Mapping[str, PriorCard]:
    """Return the cards of the bundled priors by id."""
    paths = sorted(bundled_folder().glob(f"*/{CARD}"))
    return {path.parent.name: parse_card(path.read_bytes(), path.parent.name) for path in paths}
