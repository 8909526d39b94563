import os
import signal
import subprocess
import sys

import pytest

from service.ray import processes

WAITS = "import sys; print('up', flush=True); sys.stdin.read()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"
PARENT = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], "
    "start_new_session=True); print(child.pid, flush=True); sys.stdin.read(); child.wait()"
)


@pytest.fixture
def start():
    """Returns a function that starts a process in a session of its own and returns it with its first line."""
    started = []

    def begin(code):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_a_mark_stays_while_the_process_lives_and_is_gone_when_it_has_ended(start):
    process, _ = start(WAITS)
    mark = processes.mark(process.pid)
    assert mark == processes.mark(process.pid) != processes.mark(os.getpid())
    assert processes.terminate(process.pid, mark, timeout_s=10.0)
    assert processes.mark(process.pid) is None


def test_a_process_that_took_over_an_id_is_not_touched(start):
    process, _ = start(WAITS)
    assert processes.terminate(process.pid, "another mark", timeout_s=0.0)
    assert processes.kill({process.pid: "another mark"}, timeout_s=0.0)
    assert processes.mark(process.pid) is not None


def test_a_process_that_does_not_listen_is_killed(start):
    process, _ = start(STUBBORN)
    mark = processes.mark(process.pid)
    assert not processes.terminate(process.pid, mark, timeout_s=0.1)
    assert processes.kill({process.pid: mark}, timeout_s=10.0)
    assert processes.mark(process.pid) is None


def test_descendants_are_found_also_in_sessions_of_their_own(start):
    parent, child = start(PARENT)
    assert set(processes.descendants(parent.pid)) == {int(child)}
    assert processes.session_members(parent.pid) == {parent.pid}
    os.kill(int(child), signal.SIGKILL)


def test_an_id_that_nobody_has_means_no_process():
    assert processes.mark(2**22 + 1) is None
    assert processes.descendants(2**22 + 1) == {}
