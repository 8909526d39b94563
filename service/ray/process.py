"""One local Ray head: how it is started, and what is remembered of it."""

import logging
import os
import secrets
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import httpx
from pydantic import ValidationError

from service.ray import processes
from workers.contracts.base import StoredContract
from workers.contracts.errors import NewerFormatError
from workers.training.threads import WAITING

REMEMBERED: Final = "ray.json"
LOOPBACK: Final = "127.0.0.1"
TEMPORARY: Final = "tmp"
HEALTH_TIMEOUT_S: Final = 2.0
LOG_TAIL_LINES: Final = 15

# What Ray takes from the environment. The interval and the prestart save seconds of every job.
TUNING: Final = {
    "RAY_AUTH_MODE": "token",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_enable_worker_prestart": "1",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    **WAITING,
    # On SIGTERM a node with a running job would wait half a minute for it.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    # Off, Ray takes 127.0.0.1 for the node's address as it is told; on, it listens on every interface.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
# Of another cluster, and would win over what is set here.
FOREIGN: Final = ("RAY_AUTH_TOKEN",)

logger = logging.getLogger(__name__)


class RayProcess(StoredContract):
    """What is remembered of a running head (`ray.json`). Its session has the id of its process.

    Attributes:
        pid: Of `ray start --block`.
        mark: What tells that process from a later one with the same id.
        agent_url: Of the node's agent, which starts the jobs that the dashboard is handed.
        folder: Everything of this head: token, logs, sockets.
        token_file: Holds the token that every request needs; only its owner can read it.
    """

    pid: int
    mark: str
    dashboard_url: str
    agent_url: str
    folder: Path
    token_file: Path

    @classmethod
    def remembered(cls, file: Path) -> Self | None:
        """Return what a file remembers, or None where it does not exist or was not written by us."""
        try:
            return cls.from_stored(file.read_bytes(), str(file))
        except NewerFormatError as error:
            logger.warning("%s The Ray that it remembers is left alone.", error)
            return None
        except (FileNotFoundError, ValidationError):
            return None

    def remember(self, file: Path) -> None:
        """Write this to a file, whole or not at all."""
        part = file.with_suffix(".part")
        part.write_text(self.model_dump_json())
        part.replace(file)

    def lives(self) -> bool:
        """Return whether this very process still runs."""
        return processes.mark(self.pid) == self.mark

    def same_boot(self) -> bool:
        """Return whether the machine still runs as it did then, so that a session's id still means the same."""
        own = processes.mark(os.getpid()) or ""
        return own.partition("/")[0] == self.mark.partition("/")[0]

    def answers(self) -> bool:
        """Return whether the head says that it is well, and can take jobs."""
        try:
            self.token()  # without which it takes none from us
            with httpx.Client(timeout=HEALTH_TIMEOUT_S, trust_env=False) as client:
                return all(client.get(url).is_success for url in self._health_urls())
        except (OSError, httpx.HTTPError):
            return False

    def _health_urls(self) -> tuple[str, str]:
        return f"{self.dashboard_url}/api/gcs_healthz", f"{self.agent_url}/api/local_raylet_healthz"

    def token(self) -> str:
        """Return the head's token."""
        return self.token_file.read_text()

    def log_tail(self, name: str) -> str:
        """Return the last lines of a log in the head's folder."""
        lines = (self.folder / name).read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


def write_token(folder: Path) -> Path:
    """Return a new file with a new token, which only its owner can read."""
    path = folder / "token"
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(secrets.token_hex(32))
    return path


@dataclass(frozen=True, kw_only=True)
class Head:
    """How to start a head on free ports of loopback: its command, its environment, its addresses."""

    command: tuple[str, ...]
    environment: dict[str, str]
    dashboard_url: str
    agent_url: str


def new_head(folder: Path, token_file: Path, *, num_cpus: int) -> Head:
    """Return a head that keeps its files in `folder`, which exists; for its jobs `python` means this one.

    Two heads on one machine collide on the ports that Ray fixes by default; for the others 0 lets Ray choose.
    """
    (folder / TEMPORARY).mkdir()
    gcs, dashboard, client, agent, *metrics = _free_ports(6)
    options = {
        "node-ip-address": LOOPBACK,
        "port": gcs,
        "dashboard-host": LOOPBACK,
        "dashboard-port": dashboard,
        "ray-client-server-port": client,
        "dashboard-agent-listen-port": agent,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "temp-dir": folder / "ray",
        "num-cpus": num_cpus,
        "include-dashboard": "true",
    }
    start = (sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats")
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    own = {
        # Ray's own actors ask for it, and would take another Ray of this machine for theirs.
        "RAY_ADDRESS": f"{LOOPBACK}:{gcs}",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        # What Ray and its jobs leave behind when they are killed goes with the folder.
        "TMPDIR": str(folder / TEMPORARY),
        "DASHBOARD_METRIC_PORT": str(metrics[0]),
        "AUTOSCALER_METRIC_PORT": str(metrics[1]),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), kept.get("PATH", os.defpath))),
    }
    return Head(
        command=(*start, *(f"--{name}={value}" for name, value in options.items())),
        environment=kept | TUNING | own,
        dashboard_url=f"http://{LOOPBACK}:{dashboard}",
        agent_url=f"http://{LOOPBACK}:{agent}",
    )


def _free_ports(count: int) -> list[int]:
    """Return different ports that were free a moment ago; Ray cannot be handed open sockets."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]
