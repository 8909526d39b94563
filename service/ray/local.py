"""A Ray cluster of the service's own: started as a child, remembered, found again, and ended without a trace."""

import logging
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from service.errors import ClusterUnavailableError
from service.ray import processes
from service.ray.jobs import Capacity, RayJobs
from service.ray.observer import Observer
from service.ray.process import REMEMBERED, RayProcess, new_head, write_token

START_TIMEOUT_S: Final = 90.0
STOP_TIMEOUT_S: Final = 15.0
KILL_TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.1
START_LOG: Final = "start.log"
# Unix socket paths hold about 100 characters, so the data folder, whose length is the user's, cannot hold them.
SHORT_FOLDER: Final = Path("/tmp")  # noqa: S108 -- mkdtemp makes a folder of mode 0700 in it

logger = logging.getLogger(__name__)


class LocalRay:
    """The Ray of one data folder. Whoever uses it holds the folder's lock.

    Args:
        data_dir: Where `ray.json` remembers the running one.
        num_cpus: CPUs that it offers.
    """

    def __init__(self, data_dir: Path, *, num_cpus: int) -> None:
        self._file, self._num_cpus = data_dir / REMEMBERED, num_cpus
        self._running: RayProcess | None = None
        self._jobs: RayJobs | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        self._closing = threading.Event()

    @property
    def dashboard_url(self) -> str | None:
        running = self._running
        return None if running is None else running.dashboard_url

    def connect(self) -> RayJobs:
        with self._starting:
            if self._closing.is_set():
                raise ClusterUnavailableError("the local Ray is being ended")
            if self._jobs is not None and self._running is not None and self._running.lives():
                return self._jobs
            try:
                return self._find() or self._start()
            except OSError as error:
                todo = f"Look at the free space and the permissions of {SHORT_FOLDER} and of the data folder."
                raise ClusterUnavailableError("the local Ray cannot be started", got=str(error), todo=todo) from error

    def capacity(self) -> Capacity:
        return self._current().capacity()

    def observer(self) -> Observer:
        return self._current().observer

    def check(self) -> None:
        self._current().check()

    def close(self) -> None:
        self._closing.set()
        with self._starting:
            running = self._running or RayProcess.remembered(self._file)
            if running is not None:
                self._end(running)

    def _current(self) -> RayJobs:
        jobs = self._jobs  # another thread may be replacing it
        if jobs is None:
            raise ClusterUnavailableError("the local Ray is starting")
        return jobs

    def _find(self) -> RayJobs | None:
        """Attach to the Ray that an earlier service left running; clear away one that is not well."""
        running = self._running or RayProcess.remembered(self._file)
        if running is None:
            return None
        if running.lives() and running.answers():
            logger.info("attached to the local Ray of process %d, dashboard %s", running.pid, running.dashboard_url)
            return self._use(running)
        logger.warning("the local Ray of process %d is gone or does not answer; clearing it away", running.pid)
        self._end(running)
        return None

    def _start(self) -> RayJobs:
        began_s = time.monotonic()
        with ExitStack() as undo:  # whatever fails on the way leaves neither a process nor a file
            folder = Path(tempfile.mkdtemp(prefix="archprior-ray-", dir=SHORT_FOLDER))
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            token_file = write_token(folder)
            head = new_head(folder, token_file, num_cpus=self._num_cpus)
            with (folder / START_LOG).open("wb") as log:
                self._child = subprocess.Popen(
                    head.command,
                    env=head.environment,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            running = RayProcess(
                pid=self._child.pid,
                mark=processes.mark(self._child.pid) or "",
                dashboard_url=head.dashboard_url,
                agent_url=head.agent_url,
                folder=folder,
                token_file=token_file,
            )
            undo.callback(self._end, running)
            # Remembered before it is well, so that the successor of a service that dies here can end it.
            running.remember(self._file)
            self._await_health(running)
            jobs = self._use(running)
            undo.pop_all()
        logger.info(
            "started the local Ray in %.1f s, dashboard %s, token in %s",
            time.monotonic() - began_s,
            head.dashboard_url,
            token_file,
        )
        return jobs

    def _await_health(self, running: RayProcess) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not running.answers():
            given_up = self._closing.wait(POLL_S) or time.monotonic() > deadline
            if given_up or not running.lives():
                todo = f"The end of its log:\n{running.log_tail(START_LOG)}"
                raise ClusterUnavailableError("the local Ray did not come up", todo=todo)

    def _use(self, running: RayProcess) -> RayJobs:
        if self._jobs is not None:
            self._jobs.close()
        self._running = running
        self._jobs = RayJobs(running.dashboard_url, token=running.token())
        return self._jobs

    def _end(self, running: RayProcess) -> None:
        """End exactly the processes of this Ray, and remove what it left.

        SIGTERM goes to `ray start` alone: it ends the others in an order that works. Jobs' processes have sessions of
        their own, and a process that outlives its parent is found by its session only, which has the id of `ray
        start`: where another process bears that id now, the session is another's too.
        """
        if self._jobs is not None:
            self._jobs.close()
        self._running = self._jobs = None
        known = processes.descendants(running.pid) if running.lives() else {}
        if not processes.terminate(running.pid, running.mark, timeout_s=STOP_TIMEOUT_S):
            known[running.pid] = running.mark
        if running.same_boot() and processes.mark(running.pid) in {None, running.mark}:
            members = {pid: processes.mark(pid) for pid in processes.session_members(running.pid)}
            known |= {pid: mark for pid, mark in members.items() if mark is not None}
        if not processes.kill(known, timeout_s=KILL_TIMEOUT_S):
            logger.error("some processes of the local Ray could not be ended: %s", sorted(known))
        if self._child is not None and self._child.pid == running.pid:
            self._child.poll()
            self._child = None
        shutil.rmtree(running.folder, ignore_errors=True)
        self._file.unlink(missing_ok=True)
