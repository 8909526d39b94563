"""The data folder belongs to one service process at a time."""

import fcntl
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.errors import DataDirBusyError

LOCK: Final = "service.lock"
IDENTITY: Final = "identity"
_NUMBER: Final = re.compile(r"[0-9a-f]{32}")


def require_free(data_dir: Path) -> None:
    """Refuse at once, before anything is started, a folder that `claim` would refuse.

    Raises:
        DataDirBusyError: Another process holds it.
    """
    with claim(data_dir):
        return


@contextmanager
def claim(data_dir: Path) -> Iterator[None]:
    """Hold the data folder for the block's time, making it if need be. The lock ends with the process, however it ends.

    Raises:
        DataDirBusyError: Another process holds it; the message names it.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            raise DataDirBusyError(
                f"the data folder is in use by process {holder or 'unknown'}",
                got=str(data_dir),
                todo="Stop that service, or name another folder by ARCHPRIOR_DATA_DIR.",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def identity(data_dir: Path) -> str:
    """Return what tells a claimed data folder from all others, those of another machine or container among them.

    Hosts may bear the same name, and their folders the same path. So a folder has a random number of its own, made
    when it is first asked for; and a copy of the folder, which has the same one, has another file to hold it.

    Args:
        data_dir: That the caller has claimed.

    Returns:
        32 characters.
    """
    path = data_dir / IDENTITY
    number = path.read_text(errors="replace") if path.exists() else ""
    if not _NUMBER.fullmatch(number):
        number = secrets.token_hex(16)
        partial = path.with_suffix(".partial")
        partial.write_text(number)
        partial.replace(path)
    told = f"{number}:{path.stat().st_ino}:{socket.gethostname()}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]
