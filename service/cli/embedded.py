"""The service as a child process of one command: started, waited for, and always ended."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from search_spaces.errors import InvalidOptionError
from service.cli.address import read_address, remove_address
from service.cli.errors import EmbeddedServiceError
from service.cli.interrupts import uninterrupted
from service.client import Client, RetryPolicy, ServiceError, ServiceUnreachableError

LOG_FILE: Final = "service.log"
START_TIMEOUT_S: Final = 180.0
STOP_TIMEOUT_S: Final = 60.0
DYING_TIMEOUT_S: Final = 2.0
POLL_S: Final = 0.1
LOG_TAIL_LINES: Final = 25
LOG_TAIL_BYTES: Final = 16_384


def serve_command(data_dir: Path) -> Sequence[str]:
    """Return the command line of a service of one's own, on a free port of this machine."""
    serve = (sys.executable, "-m", "service.cli.main", "serve", "--host", "127.0.0.1", "--port", "0")
    return (*serve, "--data-dir", str(data_dir), "--end-with-stdin")


@contextmanager
def data_folder(kept: Path | None) -> Iterator[Path]:
    """Yield the folder that the service shall keep its data in: `kept`, or a temporary one that is removed at the end.

    Raises:
        InvalidOptionError: A service is running on that folder already.
    """
    if kept is not None:
        folder = kept.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_a_busy_folder(folder)
        yield folder
        return
    made = Path(tempfile.mkdtemp(prefix="archprior-"))
    try:
        yield made
    finally:
        # The service's children may still be closing their last files.
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def embedded_service(data_dir: Path, on_wait: Callable[[str], None]) -> Iterator[str]:
    """Yield the address of a service that was started for this block and can take work; end it afterwards.

    Args:
        data_dir: An existing folder for its data; its log goes to `service.log` there.
        on_wait: Told, while the service comes up, what it waits for.

    Raises:
        EmbeddedServiceError: It ended, in starting or within the block, or did not become ready in time; with the end
            of its log.
    """
    remove_address(data_dir)
    with (
        (data_dir / LOG_FILE).open("ab") as log,
        subprocess.Popen(
            serve_command(data_dir),
            stdin=subprocess.PIPE,  # ends with this process, however that ends, and the service with it
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on
        ) as process,
    ):
        try:
            url = _wait_until_ready(process, data_dir, on_wait)
            try:
                yield url
            except ServiceUnreachableError as error:
                if _has_ended(process):
                    raise _ended(process, data_dir) from error
                raise
        finally:
            _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], data_dir: Path, on_wait: Callable[[str], None]) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    waiting_for = "its address"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _ended(process, data_dir)
        url = read_address(data_dir)
        if url is not None:
            ready, waiting_for = _readiness(url)
            if ready:
                return url
        on_wait(waiting_for)
        time.sleep(POLL_S)
    raise EmbeddedServiceError(
        f"the local service is not ready after {START_TIMEOUT_S:.0f} s",
        got=waiting_for,
        todo=f"The end of its log:\n{_log_tail(data_dir)}",
    )


def _readiness(url: str) -> tuple[bool, str]:
    with Client(url, timeout_s=10.0, retries=RetryPolicy(num_tries=1)) as client:
        try:
            health = client.ready()
        except (ServiceError, ServiceUnreachableError) as error:
            return False, str(error)
    return health.ok, "; ".join(f"{part}: {state}" for part, state in health.parts.items())


def _refuse_a_busy_folder(folder: Path) -> None:
    url = read_address(folder)
    if url is None:
        return
    with Client(url, timeout_s=5.0, retries=RetryPolicy(num_tries=1)) as client:
        try:
            client.health()
        except (ServiceError, ServiceUnreachableError):
            return  # a service that was killed left the file
    raise InvalidOptionError(
        f"a service is running on {folder} already", todo=f"Use it with `--server {url}`, or name another --data-dir."
    )


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    # A process that dies closes its connections a moment before it is gone.
    with suppress(subprocess.TimeoutExpired):
        process.wait(DYING_TIMEOUT_S)
    return process.returncode is not None


def _ended(process: subprocess.Popen[bytes], data_dir: Path) -> EmbeddedServiceError:
    return EmbeddedServiceError(
        f"the local service ended with code {process.returncode}",
        todo=f"The end of its log:\n{_log_tail(data_dir)}",
    )


def _log_tail(data_dir: Path) -> str:
    with (data_dir / LOG_FILE).open("rb") as log:
        size = log.seek(0, 2)
        log.seek(max(size - LOG_TAIL_BYTES, 0))
        lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:]) or "  | (empty)"


def _stop(process: subprocess.Popen[bytes]) -> None:
    # A second Ctrl-C must not leave Ray behind: the wait is bounded, so it is safe to ignore.
    with uninterrupted():
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
