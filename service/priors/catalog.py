"""Which meta-priors there are: the bundled ones, and an owner's own, whose bytes lie in the store."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from search_spaces.errors import ArchPriorError, UnknownNameError
from search_spaces.registry import SPACES
from service.errors import NotFoundError
from service.records.priors import PriorRecords, id_taken, no_such_prior
from service.schemas import ArtifactView, PriorView, PromotionView
from workers.contracts.artifacts import Artifact
from workers.contracts.errors import InvalidPriorError, ObjectMissingError, StoreError
from workers.contracts.priors import PriorCard
from workers.priors.registry import CARD, TENSORS, bundled_cards, bundled_default, bundled_folder, parse_card
from workers.store import layout
from workers.store.folder import FolderStore
from workers.store.protocol import Store

PRIORS: Final = "/v1/priors"
CURVES: Final = "curves.svg"
JSON: Final = "application/json"
# Of an owner's own priors, how many a refusal names.
MAX_NAMED: Final = 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Prior:
    """A prior's card, and its files.

    Attributes:
        store: Where the files lie.
        folder: The prefix of their keys, without a final slash.
    """

    card: PriorCard
    store: Store
    folder: str
    files: tuple[Artifact, ...]

    def key(self, name: str) -> str:
        """Return the store's key of one of the files."""
        return f"{self.folder}/{name}"


class PriorCatalog:
    """Finds priors by id, and says how they stand. A bundled id cannot be shadowed by a stored one.

    What a prior is does not change, so lists read each prior once.
    """

    def __init__(self, records: PriorRecords, store: Store) -> None:
        self._records, self._store = records, store
        self._bundled = FolderStore(bundled_folder())
        self._read: dict[str, Prior] = {}

    def page(
        self, search_space: str | None, *, owner: str, limit: int, cursor: str | None = None
    ) -> tuple[tuple[PriorView, ...], str | None]:
        """Return at most `limit` priors and the cursor of the next part: the bundled ones, then an owner's own.

        What cannot be read is left out.

        Args:
            search_space: Of which space; None: of all.
            owner: Whose own.
            limit: Most priors.
            cursor: Of the part; None: the first.

        Raises:
            InvalidRequestError: The cursor is none of ours.
        """
        bundled = [one.id for one in bundled_cards().values() if search_space in {None, one.search_space}]
        if cursor in bundled:
            bundled, cursor = bundled[bundled.index(cursor) + 1 :], None
        elif cursor is not None:
            bundled = []
        own = self._records.ids(search_space, owner=owner, limit=limit + 1, after=cursor)
        ids = [*bundled, *own]
        defaults = {space: self.default_for(space, owner=owner) for space in SPACES}
        found = filter(None, map(self._listed, ids[:limit]))
        return tuple(_view(prior, defaults) for prior in found), ids[limit - 1] if len(ids) > limit else None

    def get(self, prior_id: str, *, owner: str) -> Prior:
        """Return one prior.

        Raises:
            NotFoundError: The owner has none of that id.
            InvalidPriorError: Its card cannot be read.
        """
        if prior_id not in bundled_cards() and not self._records.exists(prior_id, owner=owner):
            raise no_such_prior(prior_id)
        return self._load(prior_id)

    def view(self, prior_id: str, *, owner: str) -> PriorView:
        """Return one prior as the API shows it. Raises as `get`."""
        prior = self.get(prior_id, owner=owner)
        space = prior.card.search_space
        return _view(prior, {space: self.default_for(space, owner=owner)})

    def card(self, prior_id: str, *, owner: str) -> PriorCard:
        """Return the card of a prior that a request names.

        Raises:
            UnknownNameError: The owner has none of that id; lists those there are.
            InvalidPriorError: Its card cannot be read.
        """
        try:
            return self.get(prior_id, owner=owner).card
        except NotFoundError:
            known = ", ".join((*bundled_cards(), *self._records.ids(owner=owner, limit=MAX_NAMED)))
            raise UnknownNameError(
                "unknown prior",
                got=prior_id,
                expected=f"one of {known}, or 'none'",
                todo="Name a known prior, or 'none' to begin with random weights.",
            ) from None

    def default_for(self, search_space: str, *, owner: str) -> str | None:
        """Return what a request of that space gets that names no prior: the promoted one, else the bundled one."""
        return self._records.default_for(search_space, owner=owner) or bundled_default(search_space)

    def promote(self, prior_id: str, *, owner: str) -> PriorView:
        """Make a prior the default of its space, and return it.

        Raises:
            InvalidPriorError: It has no weights that an adaptation could begin at. And as `get`.
        """
        card = self.get(prior_id, owner=owner).card
        card.require_weights()
        self._records.promote(prior_id, search_space=card.search_space, owner=owner)
        return self.view(prior_id, owner=owner)

    def promotions(
        self, search_space: str | None, *, owner: str, limit: int, cursor: str | None = None
    ) -> tuple[tuple[PromotionView, ...], str | None]:
        """Return promotions, newest first, and the cursor of the next part. Arguments and errors as of `page`."""
        return self._records.promotions(search_space, owner=owner, limit=limit, cursor=cursor)

    def holds(self, card: PriorCard, *, owner: str) -> bool:
        """Return whether this very prior is here already. Raises `ConflictError` where another one bears its id."""
        try:
            present = self.get(card.id, owner=owner).card
        except NotFoundError:
            if self._records.is_taken(card.id):
                raise id_taken(card.id) from None
            return False
        if present != card:
            raise id_taken(card.id)
        return True

    def add(self, card: PriorCard, tensors: Path, *, owner: str) -> bool:
        """Keep a prior that was checked; return whether it is new. What is refused leaves nothing behind.

        Args:
            card: Of the prior.
            tensors: That it tells of.
            owner: Whose it will be.

        Raises:
            ConflictError: Another prior bears its id.
            StoreError: The store failed.
        """
        folder = layout.prior(card.id)
        with self._records.incoming(card.id):
            if self.holds(card, owner=owner):
                return False
            self._remove(card.id)  # what a service that was killed here, or a meta-run that failed, has left
            try:
                self._store.put_file(f"{folder}/{TENSORS}", tensors)
                # After the tensors: whoever finds a card finds what it tells of.
                self._store.put_bytes(f"{folder}/{CARD}", card.model_dump_json(indent=1).encode(), media_type=JSON)
                self._records.add(card.id, owner=owner, search_space=card.search_space)
            except ArchPriorError:
                self._discard(card.id)
                raise
            # Where the records are lost on the way, nobody knows whether the prior is in them: its bytes stay. The same
            # prior, sent again, finds out; `gc` takes what no record names.
        return True

    def delete(self, prior_id: str, *, owner: str) -> None:
        """Delete a prior: nobody finds it from then on, and housekeeping removes its bytes.

        Raises:
            NotFoundError: There is no such prior.
            ConflictError: It is bundled, its space's promoted default, or in use.
        """
        self._records.delete(prior_id, owner=owner)
        self._read.pop(prior_id, None)

    def _remove(self, prior_id: str) -> None:
        """Remove bytes that no record names: this needs no lease, as nobody relies on them."""
        for key in self._keys(prior_id):
            self._store.delete(key)

    def _discard(self, prior_id: str) -> None:
        try:
            self._remove(prior_id)
        except StoreError as error:
            logger.warning("prior=%s was not recorded, but bytes of it are left: %s", prior_id, error)

    def _keys(self, prior_id: str) -> Sequence[str]:
        """Return the keys of a prior's bytes, its card's first: what has no card is no prior."""
        folder = layout.prior(prior_id)
        keys = (item.key for item in self._store.list(f"{folder}/"))
        return sorted(keys, key=lambda key: key != f"{folder}/{CARD}")

    def _listed(self, prior_id: str) -> Prior | None:
        try:
            return self._read.get(prior_id) or self._load(prior_id)
        except (InvalidPriorError, ObjectMissingError) as error:
            logger.warning("prior=%s is left out of the list: %s", prior_id, error)
            return None

    def _load(self, prior_id: str) -> Prior:
        bundled = prior_id in bundled_cards()
        store, folder = (self._bundled, prior_id) if bundled else (self._store, layout.prior(prior_id))
        prior = self._read[prior_id] = _read(store, folder, prior_id)
        return prior


def _read(store: Store, folder: str, prior_id: str) -> Prior:
    """Read what is small of a prior; its card says the rest."""
    data = store.get_bytes(f"{folder}/{CARD}")
    card = parse_card(data, prior_id)
    tensors = Artifact(
        name=TENSORS, num_bytes=card.num_bytes, sha256=card.sha256, media_type="application/octet-stream"
    )
    files = [tensors, _artifact(CARD, data, JSON)]
    try:
        files.append(_artifact(CURVES, store.get_bytes(f"{folder}/{CURVES}"), "image/svg+xml"))
    except ObjectMissingError:
        logger.debug("prior=%s has no curves", prior_id)
    return Prior(card=card, store=store, folder=folder, files=tuple(files))


def _artifact(name: str, data: bytes, media_type: str) -> Artifact:
    return Artifact(name=name, num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), media_type=media_type)


def _view(prior: Prior, defaults: Mapping[str, str | None]) -> PriorView:
    card = prior.card
    folder = f"{PRIORS}/{card.id}/files"
    return PriorView(
        card=card,
        bundled=card.id in bundled_cards(),
        default=defaults.get(card.search_space) == card.id,
        files=tuple(ArtifactView(**one.model_dump(), href=f"{folder}/{one.name}") for one in prior.files),
    )
