"""A real PostgreSQL with a folder of its own, for the benchmarks and the tests."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg

DEBIAN: Final = Path("/usr/lib/postgresql")
ACCOUNT: Final = "postgres"


class PostgreSQL:
    """A server with a folder of its own, reached by a socket in it; it can be stopped and started again."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # Sockets have short paths; and the server, which refuses to be root, needs a folder that it can reach.
        self._folder = Path(tempfile.mkdtemp(prefix="archprior-pg-", dir="/tmp"))
        self._account = ACCOUNT if os.geteuid() == 0 else None
        if self._account:
            shutil.chown(self._folder, self._account)
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Make an empty cluster of databases; nothing waits for the disk, as nothing here outlives the tests."""
        options = ("--no-sync", "--auth=trust", "--username=archprior", "--encoding=UTF8", "--locale=C")
        data = str(self._folder / "data")
        command = [str(self._programs / "initdb"), *options, "-D", data]
        subprocess.run(command, check=True, capture_output=True, user=self._account, cwd="/")

    def start(self) -> None:
        """Return once it answers."""
        settings = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=")
        settings = (*settings, f"unix_socket_directories={self._folder}", "max_connections=80", "shared_buffers=16MB")
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        command += [word for setting in settings for word in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, user=self._account, cwd="/", start_new_session=True
            )
        ready = [str(self._programs / "pg_isready"), "-h", str(self._folder), "-q"]
        for _ in range(600):
            if subprocess.run(ready, check=False).returncode == 0:
                return
            try:
                ended = self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError(f"postgres ended with {ended}: {(self._folder / 'log').read_text()[-2000:]}")
        raise TimeoutError("postgres does not answer")

    def stop(self) -> None:
        """Return once it has ended; open connections break."""
        if self._process is not None:
            self._process.send_signal(2)  # fast: rolls back what is open
            self._process.wait(60)
            self._process = None

    def remove(self) -> None:
        """Stop it, and leave nothing."""
        self.stop()
        shutil.rmtree(self._folder)

    def new_database(self) -> str:
        """Return the SQLAlchemy URL of a new and empty database."""
        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(
            host=str(self._folder), user="archprior", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://archprior@/{name}?host={self._folder}"


def programs() -> Path | None:
    """Return where the newest PostgreSQL of Debian lies; None: there is none."""
    return max(DEBIAN.glob("*/bin"), default=None)


@contextmanager
def postgresql(folder: Path) -> Iterator[PostgreSQL]:
    """Yield a running server whose programs lie in that folder."""
    server = PostgreSQL(folder)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.remove()
