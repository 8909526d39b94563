import os
import signal
import stat
import subprocess
import sys
import threading
import time

import httpx
import pytest

from service.errors import ClusterUnavailableError
from service.ray import processes
from service.ray.jobs import JobStatus
from service.ray.local import LocalRay
from service.ray.process import REMEMBERED, RayProcess

TIMEOUT_S = 60.0
# Ends as SIGKILL would end it: no handler runs, no cleaning up.
STARTED_BY_ANOTHER = """
import os, sys
from pathlib import Path
from service.ray.local import LocalRay
LocalRay(Path(sys.argv[1]), num_cpus=1).connect()
os._exit(0)
"""


def until(condition):
    deadline, tick = time.monotonic() + TIMEOUT_S, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        tick.wait(0.05)


def submit(jobs, submission_id, entrypoint):
    """The head is well a moment before it takes jobs; a refused submission leaves no trace."""

    def taken():
        try:
            jobs.submit(submission_id, entrypoint, {"kind": "test"})
        except ClusterUnavailableError:
            return jobs.report(submission_id).status != JobStatus.MISSING
        return True

    until(taken)


def assert_nothing_is_left(remembered, data_dir, known):
    assert processes.session_members(remembered.pid) == set()
    assert [pid for pid, mark in known.items() if processes.mark(pid) == mark] == []
    assert not remembered.folder.exists()
    assert not (data_dir / REMEMBERED).exists()


@pytest.mark.slow
@pytest.mark.alone
def test_a_ray_that_outlives_its_service_is_found_again_and_ended_without_a_trace(tmp_path):
    subprocess.run([sys.executable, "-c", STARTED_BY_ANOTHER, str(tmp_path)], check=True, timeout=TIMEOUT_S)
    remembered = RayProcess.remembered(tmp_path / REMEMBERED)
    assert remembered is not None
    assert remembered.lives()
    ray = LocalRay(tmp_path, num_cpus=1)
    try:
        jobs = ray.connect()
        assert ray.connect() is jobs
        assert ray.dashboard_url == remembered.dashboard_url
        ray.check()
        assert ray.capacity().cpus == 1

        assert stat.S_IMODE(remembered.token_file.stat().st_mode) == 0o600
        with httpx.Client(base_url=remembered.dashboard_url, trust_env=False) as stranger:
            assert stranger.get("/api/jobs/").status_code == 401

        told, pid_file = tmp_path / "told", tmp_path / "pid"
        write = f"import sys; open({str(told)!r}, 'w').write(sys.prefix)"
        submit(jobs, "ad-1-a1", f'python -c "{write}"')
        until(lambda: jobs.report("ad-1-a1").status == JobStatus.SUCCEEDED)
        assert told.read_text() == sys.prefix

        hang = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
        submit(jobs, "ad-2-a1", f'python -c "{hang}"')
        until(lambda: pid_file.exists() and pid_file.read_text())
        assert [(job.submission_id, job.metadata) for job in jobs.living()] == [("ad-2-a1", {"kind": "test"})]
        known = processes.descendants(remembered.pid)
        assert int(pid_file.read_text()) in known
    finally:
        ray.close()
    assert_nothing_is_left(remembered, tmp_path, known)
    with pytest.raises(ClusterUnavailableError):
        ray.connect()


@pytest.mark.slow
@pytest.mark.alone
def test_a_ray_that_was_killed_is_cleared_away_and_replaced(tmp_path):
    ray = LocalRay(tmp_path, num_cpus=1)
    try:
        ray.connect()
        first = RayProcess.remembered(tmp_path / REMEMBERED)
        known = processes.descendants(first.pid)
        os.kill(first.pid, signal.SIGKILL)
        until(lambda: not first.lives())
        jobs = ray.connect()
        second = RayProcess.remembered(tmp_path / REMEMBERED)
        assert second.pid != first.pid
        assert jobs.report("ad-1-a1").status == JobStatus.MISSING
        assert processes.session_members(first.pid) == set()
        assert [pid for pid, mark in known.items() if processes.mark(pid) == mark] == []
        assert not first.folder.exists()
    finally:
        ray.close()
    assert_nothing_is_left(second, tmp_path, {})


def remembered_as(pid, mark, folder):
    url = "http://127.0.0.1:9"
    return RayProcess(pid=pid, mark=mark, dashboard_url=url, agent_url=url, folder=folder, token_file=folder / "token")


def test_a_session_whose_leader_has_taken_over_the_id_is_left_alone(tmp_path):
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True) as stranger:
        mark = processes.mark(stranger.pid)
        boot = mark.partition("/")[0]
        remembered_as(stranger.pid, f"{boot}/1", tmp_path / "ray").remember(tmp_path / REMEMBERED)
        LocalRay(tmp_path, num_cpus=1).close()
        assert processes.mark(stranger.pid) == mark
    assert stranger.returncode == 0
    assert not (tmp_path / REMEMBERED).exists()


def test_a_ray_whose_token_cannot_be_read_is_not_well(tmp_path):
    assert not remembered_as(os.getpid(), processes.mark(os.getpid()), tmp_path / "gone").answers()


def test_a_start_that_fails_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    short, folder = tmp_path / "short", tmp_path / "data"
    short.mkdir()
    started = []

    def no_space(running, _):
        started.append(running)
        raise OSError("no space left")

    monkeypatch.setattr("service.ray.local.SHORT_FOLDER", short)
    monkeypatch.setattr(RayProcess, "remember", no_space)
    ray = LocalRay(folder, num_cpus=1)
    with pytest.raises(ClusterUnavailableError, match="no space left"):
        ray.connect()
    assert not started[0].lives()
    assert list(short.iterdir()) == []


def test_a_file_that_is_not_ours_is_as_good_as_none(tmp_path):
    (tmp_path / REMEMBERED).write_text('{"pid": "many"}')
    assert RayProcess.remembered(tmp_path / REMEMBERED) is None
    assert RayProcess.remembered(tmp_path / "absent.json") is None


def test_closing_what_was_never_started_does_nothing(tmp_path):
    ray = LocalRay(tmp_path, num_cpus=1)
    with pytest.raises(ClusterUnavailableError, match="starting"):
        ray.check()
    ray.close()
    assert ray.dashboard_url is None
