"""What a user names on the command line, brought into the form that the service takes."""

from hashlib import file_digest
from pathlib import Path

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import InvalidPriorError
from workers.contracts.priors import PriorCard
from workers.priors.registry import CARD, TENSORS, bundled_cards, parse_card
from workers.store import layout
from workers.store.protocol import Store


def as_archive(data: Path, scratch: Path) -> Path:
    """Return a zip of class folders: the file itself, or one made in `scratch` of a folder or a packed npz.

    Raises:
        InvalidOptionError: Nothing lies at `data`.
        InvalidDatasetError: The folder or npz is no dataset.
    """
    if not data.exists():
        raise InvalidOptionError(
            "no such dataset", got=str(data), expected="a zip of class folders, a folder of them, or a packed npz"
        )
    if data.is_dir() or data.suffix == ".npz":
        # Brings numpy and Pillow, which no other command should wait for.
        from workers.tasks.sources import write_zip

        archive = scratch / f"{data.resolve().stem}.zip"
        write_zip(data, archive)
        return archive
    return data


def prior_folder(prior: str | None) -> Path | None:
    """Return the folder of a prior named by its path, or None where `prior` is an id."""
    if prior is None:
        return None
    folder = Path(prior)
    if (folder / CARD).is_file():
        return folder
    if folder.is_dir() or len(folder.parts) > 1:
        raise InvalidOptionError("no prior in this folder", got=prior, expected=f"a folder with {CARD} and {TENSORS}")
    return None


def install_prior(folder: Path, store: Store) -> str:
    """Copy a prior into a store, its card last; return its id.

    Raises:
        InvalidPriorError: Its files do not match its card, or another prior bears its id.
    """
    card = parse_card((folder / CARD).read_bytes(), str(folder), any_id=True)
    with (folder / TENSORS).open("rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    if found != card.sha256:
        raise InvalidPriorError(f"{folder / TENSORS} does not match its card", got=found, expected=card.sha256)
    present = _present(card.id, store)
    if present is None:
        store.put_file(f"{layout.prior(card.id)}/{TENSORS}", folder / TENSORS)
        store.put_bytes(f"{layout.prior(card.id)}/{CARD}", (folder / CARD).read_bytes(), media_type="application/json")
    elif present.sha256 != card.sha256:
        raise InvalidPriorError(
            "another prior bears this id already", got=card.id, todo="Give the new one an id of its own in its card."
        )
    return card.id


def _present(prior_id: str, store: Store) -> PriorCard | None:
    key = f"{layout.prior(prior_id)}/{CARD}"
    if prior_id in bundled_cards() or store.size(key) is None:
        return bundled_cards().get(prior_id)
    return parse_card(store.get_bytes(key), prior_id)
