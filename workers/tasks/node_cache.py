"""Folders that all processes of a node share: each made once, kept while it is used, removed when room is short.

    <key>/              a whole folder; its modification time is when somebody last asked for it
    .building/<key>/    one that is being made or removed, or that a killed process left
    .locks/<key>        held shared by whoever uses the key, exclusively by whoever removes its folder
    .locks/<key>.build  held by the one that makes it

Locks are `flock`: the system lets go of them when a process ends, however it ends. Free of torch.
"""

import fcntl
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import NodeCacheError

FOLDER_VARIABLE: Final = "ARCHPRIOR_CACHE_DIR"
BYTES_VARIABLE: Final = "ARCHPRIOR_CACHE_BYTES"
DEFAULT_BYTES: Final = 50 << 30
PATIENCE_S: Final = 3600.0
KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
POLL_S: Final = 0.05


def open_node_cache(*, patience_s: float = PATIENCE_S) -> "NodeCache":
    """Return this node's cache, which meta-runs and adaptations share.

    It lies in `ARCHPRIOR_CACHE_DIR`, else in `archprior-cache` beside other temporary files, and keeps up to
    `ARCHPRIOR_CACHE_BYTES`, else 50 GiB.

    Args:
        patience_s: To wait for another process that makes a folder which is asked for.

    Raises:
        InvalidOptionError: `ARCHPRIOR_CACHE_BYTES` is no whole number above 0.
        NodeCacheError: The folder cannot be made.
    """
    root = os.environ.get(FOLDER_VARIABLE) or os.path.join(tempfile.gettempdir(), "archprior-cache")
    text = os.environ.get(BYTES_VARIABLE) or str(DEFAULT_BYTES)
    if not text.isdecimal() or int(text) == 0:
        todo = f"Set {BYTES_VARIABLE} to a number of bytes, or unset it."
        raise InvalidOptionError(BYTES_VARIABLE, got=text, expected="a whole number above 0", todo=todo)
    return NodeCache(Path(root), int(text), patience_s=patience_s)


class NodeCache:
    """A cache of folders by key, made at most once on a node; threads and processes may share it.

    A folder that `folder` has returned stays until `close`, or until this process ends. Beyond `max_bytes`, those that
    nobody uses are removed, the least recently used first; those in use, and the one just made, stay even so.

    Args:
        root: On a disk of this node; made where it is missing.
        max_bytes: Of all folders together.
        patience_s: To wait for another process that makes the same folder.

    Raises:
        InvalidOptionError: A bound is not positive.
        NodeCacheError: `root` cannot be made.
    """

    def __init__(self, root: Path, max_bytes: int, *, patience_s: float = PATIENCE_S) -> None:
        if max_bytes <= 0 or patience_s <= 0:
            got = (max_bytes, patience_s)
            raise InvalidOptionError("max_bytes, patience_s of a node's cache", got=got, expected="more than 0")
        self._root, self._max_bytes, self._patience_s = root.absolute(), max_bytes, patience_s
        self._building, self._locks = self._root / ".building", self._root / ".locks"
        self._used: dict[str, int] = {}
        self._guard = threading.Lock()
        with self._disk_errors():
            self._building.mkdir(parents=True, exist_ok=True)
            self._locks.mkdir(exist_ok=True)

    def folder(self, key: str, build: Callable[[Path], None]) -> Path:
        """Return the folder of a key, made by `build` if this node has none.

        Args:
            key: Letters, digits, `_` and `-`; it must name everything that decides what `build` writes.
            build: Fills an empty folder. Where it raises, nothing stays.

        Raises:
            NodeCacheError: The disk is full or fails, or another process has been making the folder for `patience_s`.
        """
        if not KEY.fullmatch(key):
            raise InvalidOptionError("key of a node's cache", got=key[:200], expected=KEY.pattern)
        folder = self._root / key
        with self._guard, self._disk_errors():
            if key not in self._used:
                self._used[key] = self._locked(key, fcntl.LOCK_SH)
            # From here on nobody removes the folder.
            if not folder.is_dir():
                self._make(key, build)
            os.utime(folder)
        return folder

    def close(self) -> None:
        """Let go of all folders: from now on they may be removed."""
        with self._guard:
            while self._used:
                os.close(self._used.popitem()[1])

    def _make(self, key: str, build: Callable[[Path], None]) -> None:
        lock = self._locked(f"{key}.build", fcntl.LOCK_EX)
        partial = self._building / key
        try:
            if (self._root / key).is_dir():
                return  # another process was faster
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                build(partial)
                _flush(partial)
                partial.rename(self._root / key)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        finally:
            os.close(lock)
        self._make_room()

    def _make_room(self) -> None:
        """Remove what killed processes left, and folders that nobody uses until the rest is small enough."""
        for left in list(self._building.iterdir()):
            with self._unused(left.name) as is_unused:
                if is_unused:
                    shutil.rmtree(left, ignore_errors=True)
        found = {}
        for folder in self._root.iterdir():
            if KEY.fullmatch(folder.name):
                with suppress(FileNotFoundError):  # removed by another process meanwhile
                    found[folder] = (folder.stat().st_mtime_ns, _num_bytes(folder))
        total = sum(num_bytes for _, num_bytes in found.values())
        for folder, (_, num_bytes) in sorted(found.items(), key=lambda item: item[1]):
            if total <= self._max_bytes:
                return
            with self._unused(folder.name) as is_unused:
                if is_unused:
                    self._remove(folder)
                    total -= num_bytes

    def _remove(self, folder: Path) -> None:
        """Remove a folder, first out of sight, so that nothing half removed is ever taken for whole."""
        away = self._building / folder.name
        shutil.rmtree(away, ignore_errors=True)
        with suppress(FileNotFoundError):  # another process was faster
            folder.rename(away)
        shutil.rmtree(away, ignore_errors=True)

    @contextmanager
    def _unused(self, key: str) -> Iterator[bool]:
        """Whether nobody uses or makes a key's folder; if so, nobody does until the context ends."""
        handle = self._try_lock(key, fcntl.LOCK_EX)
        try:
            yield handle is not None
        finally:
            if handle is not None:
                os.close(handle)

    def _locked(self, name: str, kind: int) -> int:
        """Return an open handle that holds a lock; closing it lets go."""
        end = time.monotonic() + self._patience_s
        while (handle := self._try_lock(name, kind)) is None:
            if time.monotonic() >= end:
                raise NodeCacheError(
                    f"another process has kept {self._root / name} of this node's cache for {self._patience_s:.0f} s",
                    todo="Look for a process that hangs.",
                )
            time.sleep(POLL_S)
        return handle

    def _try_lock(self, name: str, kind: int) -> int | None:
        handle = os.open(self._locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NodeCacheError(
                f"this node's cache {self._root} failed ({error.strerror or error})",
                todo="Free space on its disk, lower the cache's size, or put it elsewhere.",
            ) from error


def _flush(folder: Path) -> None:
    """Bring a folder's files to the disk: after a crash of the machine, too, a folder with a name is whole."""
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
