"""The data folder belongs to one service process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.errors import DataDirBusyError

LOCK: Final = "service.lock"


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
