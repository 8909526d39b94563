import os
import subprocess
import sys

import pytest

from service.data_dir import claim
from service.errors import DataDirBusyError
from service.parts import running
from service.ray.cluster import open_cluster

TORCH_BLOCKED = """
import importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "ray", "numpy"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
from pathlib import Path
from service.app import create_app
from service.settings import Settings
app = create_app(Settings(data_dir=Path(sys.argv[1])))
assert app.openapi()["paths"]
"""


def test_the_service_needs_no_torch_and_no_ray_in_its_process_and_builds_nothing_before_it_starts(tmp_path):
    folder = tmp_path / "data"
    done = subprocess.run(
        [sys.executable, "-c", TORCH_BLOCKED, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not folder.exists()


def test_a_data_folder_belongs_to_one_process_which_the_refusal_names(tmp_path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from service.data_dir import claim\n"
            "with claim(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataDirBusyError, match=f"process {holder.pid}"), claim(tmp_path):
            pass
    with claim(tmp_path):
        assert (tmp_path / "service.lock").exists()


def test_a_service_whose_reconciler_has_stopped_is_not_ready(service):
    service.parts.loop.stop()
    service.parts.loop.join()
    response = service.client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["parts"]["reconciler"] != "ok"


def test_a_service_that_ends_lets_go_of_everything_and_its_successor_goes_on(new_service, tmp_path, small_zip):
    with new_service(tmp_path) as first:
        adaptation = first.adapt(dataset_id=first.add_dataset(small_zip)["id"], prior="none")
        first.await_submission()
    assert first.cluster.closed
    assert not first.parts.loop.alive
    with new_service(tmp_path) as second:
        # Its cluster is a new one, so the job is lost, and the work goes on as a new attempt.
        assert second.await_submission() == f"{adaptation['id']}-a2"


def test_what_a_killed_service_was_receiving_is_cleared_away(new_service, tmp_path):
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "half").write_bytes(b"PK")
    left = tmp_path / "objects" / ".partial" / "left"
    left.parent.mkdir(parents=True)
    left.touch()
    os.utime(left, (0, 0))
    with new_service(tmp_path) as service:
        assert list(service.parts.uploads.folder.iterdir()) == []
        assert not left.exists()


def test_a_busy_data_folder_keeps_a_service_from_starting(service):
    with pytest.raises(DataDirBusyError), running(service.parts.settings, open_cluster):
        pass
