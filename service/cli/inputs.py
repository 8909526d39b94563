"""What a user names on the command line, brought into the form that the service takes."""

from hashlib import file_digest
from pathlib import Path

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import InvalidPriorError
from workers.priors.registry import CARD, TENSORS, parse_card


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


def named_prior(prior: str | None) -> Path | None:
    """Return the folder of a prior named by its path, or None where `prior` is an id.

    Raises:
        InvalidOptionError: It is a path, and no prior lies there.
        InvalidPriorError: The prior there is not whole.
    """
    if prior is None:
        return None
    folder = Path(prior)
    if folder.is_dir() or len(folder.parts) > 1:
        check_prior(folder)
        return folder
    return None


def check_prior(folder: Path) -> None:
    """See that a folder holds a whole prior, before it is sent anywhere.

    Raises:
        InvalidOptionError: No prior lies there.
        InvalidPriorError: Its card cannot be read, or its tensors are not those that the card names.
    """
    if not (folder / CARD).is_file() or not (folder / TENSORS).is_file():
        expected = f"a folder with {CARD} and {TENSORS}"
        raise InvalidOptionError("no prior in this folder", got=str(folder), expected=expected)
    card = parse_card((folder / CARD).read_bytes(), str(folder), any_id=True)
    with (folder / TENSORS).open("rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    if found != card.sha256:
        raise InvalidPriorError(f"{folder / TENSORS} does not match its card", got=found, expected=card.sha256)
