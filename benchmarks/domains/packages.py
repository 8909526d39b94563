"""Packages that images come in, fetched by the registries' ordinary clients into a folder; nothing is installed."""

import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from search_spaces.errors import ArchPriorError


class UnavailableSourceError(ArchPriorError):
    """What a domain is made of cannot be had here."""

    code = "unavailable_source"


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """A Debian package, unpacked.

    Attributes:
        version: Of the package.
        root: Its files lie below, as they would below `/`.
    """

    version: str
    root: Path


class Packages(Protocol):
    """Hands out packages."""

    def npm(self, name: str, version: str) -> Path:
        """Return the package's archive (.tgz).

        Raises:
            UnavailableSourceError: It cannot be had.
        """

    def debian(self, name: str) -> Unpacked:
        """Return the package, unpacked, in the version that this system's package lists offer.

        Raises:
            UnavailableSourceError: It cannot be had.
        """


class FetchedPackages:
    """Packages in a folder, fetched when they are asked for first.

    Args:
        folder: Made if absent; what lies there is not fetched again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def npm(self, name: str, version: str) -> Path:
        path = self._folder / f"{name}-{version}.tgz"
        if not path.exists():
            with self._folder_for_work() as work:
                _call(["npm", "pack", f"{name}@{version}", "--silent"], work, "Install npm, or look at its settings.")
                _the_one(work, "*.tgz").rename(path)
        return path

    def debian(self, name: str) -> Unpacked:
        found = sorted(self._folder.glob(f"{name}_*"))
        if not found:
            with self._folder_for_work() as work:
                _call(["apt-get", "download", name], work, "It takes a Debian; run apt-get update first.")
                archive = _the_one(work, "*.deb")
                version = _call(["dpkg-deb", "--field", archive.name, "Version"], work, "Install dpkg.").strip()
                _call(["dpkg-deb", "--extract", archive.name, "root"], work, "Install dpkg.")
                found = [self._folder / f"{name}_{version}"]
                (work / "root").rename(found[0])
        return Unpacked(version=found[-1].name.removeprefix(f"{name}_"), root=found[-1])

    @contextmanager
    def _folder_for_work(self) -> Iterator[Path]:
        """Yield a folder on the same disk: what is whole is moved out of it in one step."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=self._folder) as made:
            yield Path(made)


def files_below(archive: Path, prefix: str) -> dict[str, bytes]:
    """Return the files of a tar archive whose paths begin with a prefix, by the rest of their paths.

    Raises:
        UnavailableSourceError: There are none.
    """
    found = {}
    # In the archive's order: a compressed one is read from its beginning again for each step back.
    with tarfile.open(archive) as opened:
        for member in opened:
            if member.name.startswith(prefix) and (file := opened.extractfile(member)) is not None:
                found[member.name.removeprefix(prefix)] = file.read()
    if not found:
        raise UnavailableSourceError(f"{archive.name} lacks files", expected=f"{prefix}...")
    return found


def _call(command: Sequence[str], folder: Path, todo: str) -> str:
    """Return what a command printed."""
    what = f"{' '.join(command)} failed"
    try:
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise UnavailableSourceError(what, got=f"no {command[0]} on this machine", todo=todo) from error
    except subprocess.CalledProcessError as error:
        raise UnavailableSourceError(what, got=error.stderr.strip()[-300:], todo=todo) from error
    return done.stdout


def _the_one(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise UnavailableSourceError("a package came in another form", got=[path.name for path in found])
    return found[0]
