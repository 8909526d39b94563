"""A cluster of containers, by the project's own docker-compose file, on an engine that is there already."""

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from playwright.sync_api import Page, sync_playwright

from benchmarks.machine import describe, write
from service.client import Client

Answer = TypeVar("Answer")

ROOT = Path(__file__).parents[2]
NUM_WORKERS = 2
WINDOW = {"width": 1600, "height": 860}
TIMEOUT_S = 300.0


class Cluster:
    """The containers of one docker-compose project.

    Attributes:
        timings: Seconds of what was done, by name.
    """

    def __init__(self) -> None:
        self.project = f"archprior-{uuid.uuid4().hex[:8]}"
        self.port, self.dashboard_port = _free_port(), _free_port()
        self.environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": self.project,
            "ARCHPRIOR_IMAGE": os.environ.get("IMAGE", "archprior:latest"),
            "ARCHPRIOR_PUBLISH": f"127.0.0.1:{self.port}",
            "ARCHPRIOR_DASHBOARD_PORT": str(self.dashboard_port),
            "ARCHPRIOR_DASHBOARD_URL": f"http://127.0.0.1:{self.dashboard_port}",
        }
        self.dashboard_url = self.environment["ARCHPRIOR_DASHBOARD_URL"]
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = Client(self.url)
        self.timings: dict[str, float] = {}

    def compose(self, *arguments: str) -> str:
        """Run docker-compose; return what it wrote. Fails with all of its words."""
        return self._run("docker-compose", *arguments)

    def docker(self, *arguments: str) -> str:
        return self._run("docker", *arguments)

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's containers."""
        return self.compose("ps", "-q", service).split()

    def build(self) -> None:
        """Build the image, or find that it is there."""
        self._run("make", "image")

    def layers(self) -> list[str]:
        """Return the size of each layer of the image that has one, and what made it, the topmost first."""
        image = self.environment["ARCHPRIOR_IMAGE"]
        listed = self.docker("history", "--no-trunc", "--format", "{{.Size}} {{.CreatedBy}}", image).splitlines()
        return [" ".join(line.split())[:160] for line in listed if not line.startswith("0B ")]

    def up(self) -> None:
        self.compose("up", "-d", "--no-build", "--scale", f"worker={NUM_WORKERS}")
        self.ready()

    def ready(self) -> None:
        """Wait until the service answers and its cluster has all workers."""
        self.until(lambda: self.client.ready().ok, lambda ok: ok)
        self.until(self.nodes, lambda nodes: len(nodes) == NUM_WORKERS)

    def nodes(self) -> list[str]:
        """Return the Ray nodes that have CPUs and live."""
        listed = self.ask_ray("/api/v0/nodes?limit=100&detail=true")["data"]["result"]["result"]
        return [node["node_id"] for node in listed if node["state"] == "ALIVE" and node["resources_total"].get("CPU")]

    def ask_ray(self, path: str) -> dict:
        """Return what the published dashboard says to whoever has the cluster's token."""
        answer = httpx.get(
            self.dashboard_url + path,
            headers={"Authorization": f"Bearer {self.secret('ray_token')}"},
            timeout=20.0,
        )
        answer.raise_for_status()
        return answer.json()

    @contextmanager
    def browser(self, path: str) -> Iterator[Page]:
        """Yield what a browser shows of the dashboard, which is given its token."""
        chromium = shutil.which("chromium")
        if chromium is None:
            pytest.skip("no browser: install Debian's chromium")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            headers = {"Authorization": f"Bearer {self.secret('ray_token')}"}
            page = browser.new_context(viewport=WINDOW, extra_http_headers=headers).new_page()
            page.set_default_timeout(120_000)
            page.goto(self.dashboard_url + path)
            yield page
            browser.close()

    def secret(self, name: str) -> str:
        return self.compose("exec", "-T", "service", "cat", f"/secrets/{name}").strip()

    def until(self, ask: Callable[[], Answer], holds: Callable[[Answer], bool], timeout_s: float = TIMEOUT_S) -> Answer:
        """Return an answer once `holds` of it; what cannot be asked meanwhile is asked again."""
        deadline, last = time.monotonic() + timeout_s, None
        while time.monotonic() < deadline:
            try:
                last = ask()
                if holds(last):
                    return last
            except AssertionError:
                raise
            except Exception as error:  # noqa: BLE001 -- containers come and go here
                last = error
            time.sleep(0.5)
        raise AssertionError(f"waited {timeout_s:.0f} s, last: {last}\n{self.compose('logs', '--tail', '40')}")

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.timings[what] = round(time.monotonic() - began, 1)

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def cluster(request) -> Iterator[Cluster]:
    """The cluster, up; all of it goes at the end, volumes too."""
    if shutil.which("docker-compose") is None or subprocess.run(("docker", "info"), capture_output=True).returncode:
        pytest.skip("no container engine answers: install docker and docker-compose, and start the engine")
    made = Cluster()
    try:
        with made.timed("image_s"):
            made.build()
        with made.timed("up_s"):
            made.up()
        yield made
        if not request.session.testsfailed:
            how = {**describe(), "command": "make test-cluster"}
            write("cluster", {"benchmark": "cluster", **made.timings}, {"layers": made.layers(), **how})
    finally:
        made.client.close()
        made.compose("down", "--volumes", "--timeout", "5")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
