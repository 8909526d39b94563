"""A Ray cluster of several nodes in one process tree, whose nodes can be crashed and frozen."""

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ray.cluster_utils import Cluster

from benchmarks.processes import descendants

NUM_NODES: Final = 3
# A node that does not answer counts as dead after about 5 s, instead of after more than a minute.
HEALTH: Final = {"health_check_period_ms": 500, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 3}


@contextmanager
def cluster(folder: Path) -> Iterator["Nodes"]:
    """Run a cluster of this process's own, with a token that nobody else knows."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise SystemExit("set RAY_AUTH_MODE=token before Python starts, as make does: Ray reads it once")
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    os.environ |= {"RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ.pop("RAY_AUTH_TOKEN", None)  # of another cluster, it would win
    head = {"num_cpus": 0, "include_dashboard": False, "node_ip_address": "127.0.0.1", "_system_config": HEALTH}
    whole = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = Nodes(whole)
        nodes.fill()
        yield nodes
    finally:
        whole.shutdown()


class Nodes:
    """The nodes of a cluster, as processes.

    Args:
        whole: Has a head already.
    """

    def __init__(self, whole: Cluster) -> None:
        self._cluster = whole
        self._frozen: list[tuple[Any, list[int]]] = []

    @property
    def address(self) -> str:
        """Of the cluster."""
        return str(self._cluster.address)

    def fill(self) -> None:
        """Clear away what a fault has left, and replace the nodes that are gone."""
        for node, pids in self._frozen:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            self._cluster.remove_node(node, allow_graceful=False)
        self._frozen = []
        while len(self._cluster.worker_nodes) < NUM_NODES:
            self._cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1")

    def crash_with(self, pid: int) -> None:
        """End the node that has a process, and all its processes, at once."""
        node = self._node_of(pid)
        pids = self._pids(node)
        self._cluster.remove_node(node, allow_graceful=False)
        for pid in pids:  # most are gone with it
            kill(pid)

    def freeze_with(self, pid: int) -> None:
        """Stop the node that has a process, and all its processes: they live, and answer nothing."""
        node = self._node_of(pid)
        pids = self._pids(node)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        self._frozen.append((node, pids))

    def server_pid(self) -> int | None:
        """Return the process of the parameter actor."""
        for node in self._cluster.list_all_nodes():
            for process in descendants(_raylet(node)):
                if process.command.startswith("ray::ParameterServer"):
                    return process.pid
        return None

    def _node_of(self, pid: int) -> Any:
        return next(node for node in self._cluster.worker_nodes if pid in self._pids(node))

    def _pids(self, node: Any) -> list[int]:
        raylet = _raylet(node)
        return [raylet, *(process.pid for process in descendants(raylet))]


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def kill(pid: int) -> None:
    """End a process at once, if it is still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
