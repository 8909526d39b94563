"""Rows of the table of recovery with a local Ray and jobs that train: services, Ray and the store are killed."""

import io
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from benchmarks.recovery.servers import s3_server
from benchmarks.recovery.service import KILLED
from benchmarks.recovery.services import Row, Services, new_folder
from service.errors import ClusterUnavailableError
from service.ray import processes
from service.ray.jobs import RayJobs
from service.ray.local import LocalRay
from service.ray.process import REMEMBERED, RayProcess

REAL_PATIENCE_S: Final = 300.0
BUDGET_S: Final = 15
LONG_BUDGET_S: Final = 75
AWAY_S: Final = 30.0
# With the attempt in which the work is to succeed.
POINTS: Final = (
    ("write request.json", "after", 1),
    ("record RUNNING", "after", 2),
    ("submit the job", "before", 2),
    ("submit the job", "after", 1),
)


class RealServices(Services):
    """Services with a local Ray of their own, which outlives each of them.

    Args:
        folder: Of the service's data.
        objects: Where those of its store lie; None: in the service's data.
        environment: Of the services, beside this process's.
    """

    ray = "local Ray"

    def __init__(
        self, folder: Path, *, objects: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder, "--real", environment=environment)
        self._objects = objects or self.data_dir / "objects"

    def num_twice(self, view: Mapping[str, object]) -> int:
        """Return how many attempts beyond one have left a result."""
        return len(list(self._objects.rglob(f"{view['id']}/attempts/*/manifest.json"))) - 1

    def num_left(self) -> int:
        """Return how many jobs live after a while; one that has left its result takes a moment to end."""
        remembered = self.local_ray()
        jobs = RayJobs(remembered.dashboard_url, token=remembered.token())
        deadline = time.monotonic() + REAL_PATIENCE_S
        try:
            while (num := len(jobs.living())) and time.monotonic() < deadline:
                time.sleep(0.5)
        finally:
            jobs.close()
        return num

    def local_ray(self) -> RayProcess:
        """Return the Ray that the service has started or found."""
        remembered = RayProcess.remembered(self.data_dir / REMEMBERED)
        if remembered is None:
            raise ClusterUnavailableError("no Ray is remembered")
        return remembered

    def await_work(self, work_id: str) -> None:
        """Wait until the job of an adaptation trains."""
        deadline = time.monotonic() + REAL_PATIENCE_S
        while time.monotonic() < deadline:
            view = self.ask("GET", f"/v1/adaptations/{work_id}").json()
            if view["state"] == "RUNNING" and (view["progress"] or {}).get("phase") in {"searching", "training"}:
                return
            time.sleep(0.2)
        raise TimeoutError(f"{work_id} does not train")

    def end(self) -> None:
        super().end()
        LocalRay(self.data_dir, num_cpus=1).close()


def real_rows() -> Iterator[Row]:
    """Yield the rows, each as soon as it is known."""
    yield from killed_services()
    yield ray_killed()
    yield store_away()


def killed_services() -> Iterator[Row]:
    """Yield what comes of work whose service is killed around its submission; all services find the same Ray again."""
    with _real_services() as here:
        for number, (point, when, attempt) in enumerate(POINTS, 1):
            began = time.monotonic()
            here.kill()
            here.start(point, when)
            view = _await(here, here.adapt(archive=halves(), budget_s=BUDGET_S))
            died = here.exit_codes == number * [KILLED]
            yield here.row(f"killed {when}: {point}", view, began, attempt=attempt, num_adaptations=number, ok=died)


def ray_killed() -> Row:
    """Return what comes of work whose Ray is killed, with all of its processes, while it trains."""
    with _real_services() as here:
        began = time.monotonic()
        here.start()
        work_id = here.adapt(archive=halves(), budget_s=BUDGET_S)
        here.await_work(work_id)
        first = here.local_ray()
        head = {first.pid: first.mark}
        processes.kill({**processes.descendants(first.pid), **head}, timeout_s=30.0)
        view = _await(here, work_id)
        return here.row("Ray killed", view, began, attempt=2, ok=here.local_ray().pid != first.pid)


def store_away() -> Row:
    """Return what comes of work whose S3 server is away for `AWAY_S` while it trains."""
    with s3_server() as server, _real_services(objects=server.folder, environment=server.environment) as here:
        began = time.monotonic()
        here.start()
        work_id = here.adapt(archive=halves(), budget_s=LONG_BUDGET_S)
        here.await_work(work_id)
        server.away(AWAY_S)
        return here.row(f"store away for {AWAY_S:.0f} s", _await(here, work_id), began)


def halves() -> bytes:
    """Return a dataset from which something can be learned: bright and dark halves, with noise."""
    generator = np.random.default_rng(0)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for number in range(160):
            pixels = generator.integers(0, 100, (12, 12), dtype=np.uint8)
            side = number % 2
            pixels[:, 6 * side : 6 * side + 6] += 120
            image = io.BytesIO()
            Image.fromarray(pixels).save(image, "PNG")
            archive.writestr(zipfile.ZipInfo(f"{'ab'[side]}/{number}.png"), image.getvalue())
    return data.getvalue()


def _await(here: RealServices, work_id: str) -> dict[str, object]:
    return here.await_state(work_id, patience_s=REAL_PATIENCE_S)


@contextmanager
def _real_services(
    *, objects: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[RealServices]:
    with new_folder() as folder:
        here = RealServices(folder, objects=objects, environment=environment)
        try:
            yield here
        finally:
            here.end()
