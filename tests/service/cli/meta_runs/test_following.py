"""Following on a real terminal, leaving it, and a run that begins a new attempt meanwhile."""

import io
import os
import pty
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from rich.console import Console

from service.cli.meta_runs.display import MetaLines
from service.cli.meta_runs.following import EventTail
from service.client import Client
from service.schemas import MetaEventPage, MetaRunLinks, MetaRunView
from workers.contracts.meta_runs import DatasetChoice, MetaEvent, MetaProgress, MetaRunRequest

ENTRY = """
import signal, sys
from service.cli import main
from service.cli.meta_runs import following
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have made its background jobs deaf to it
following.POLL_S = 0.01
main.app(["meta-runs", *sys.argv[1:]])
"""
START = ("start", "--dataset", "ds1", "--name", "endless", "--follow")


def follow(running, *command, **streams):
    command = [sys.executable, "-c", ENTRY, *command, "--server", running]
    return subprocess.Popen(command, env=os.environ | {"COLUMNS": "150", "LINES": "40", "TERM": "xterm"}, **streams)


def leave(process, signum):
    """Send the signal once the run is under way, and return what is said then."""
    for line in process.stderr:
        if "learning" in line:
            break
    process.send_signal(signum)
    stdout, rest = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    return rest


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_leaving_a_run_lets_it_go_on_and_says_how_to_end_it(running, run_cli, last_json, signum):
    with follow(running, *START, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        run_id = process.stderr.readline().split()[-1]
        rest = leave(process, signum)
    assert f"{run_id} goes on without you" in rest
    for command in ("follow", "stop", "cancel"):
        assert f"archprior meta-runs {command} {run_id} --server {running}" in rest
    assert "Traceback" not in rest
    assert last_json(run_cli("meta-runs", "show", run_id, "--server", running, "--json"))["state"] == "RUNNING"


def test_leaving_a_comparison_suggests_no_stop_which_would_be_refused(running):
    datasets = (DatasetChoice(dataset_id="ds1"),)
    request = MetaRunRequest(kind="compare", name="endless", datasets=datasets, priors=("base-v1", "made"))
    with Client(running) as client:
        run_id = client.create_meta_run(request).id
    with follow(running, "follow", run_id, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        rest = leave(process, signal.SIGINT)
    for command in ("follow", "cancel"):
        assert f"archprior meta-runs {command} {run_id} --server {running}" in rest
    assert "meta-runs stop" not in rest


def test_a_terminal_shows_a_board_that_is_redrawn_in_place(running):
    terminal, other_end = pty.openpty()
    with follow(running, *START, stdout=subprocess.DEVNULL, stderr=other_end) as process:
        os.close(other_end)
        seen = b""
        while b"slot 1 of step 60" not in seen or b"52.0 % after 4 steps" not in seen:
            seen += os.read(terminal, 65_536)
        process.send_signal(signal.SIGINT)
        while True:
            try:
                seen += os.read(terminal, 65_536)
            except OSError:  # how a terminal ends whose last writer has gone
                break
        assert process.wait(60) == 130
    os.close(terminal)
    text = seen.decode()
    for part in ("step 60 / 100", "ETA 0:00:40", "worker-2", "[red] its slot goes to another", "goes on without you"):
        assert part in text
    assert "\x1b[2K" in text  # lines are erased and written anew


class Script:
    """Answers as a client of the service would, page by page; remembers from where it was asked."""

    def __init__(self, pages):
        self.pages, self.asked = list(pages), []

    def events(self, meta_run_id, *, after=0):
        self.asked.append(after)
        return self.pages.pop(0)


def page(attempt, *sequences, after=0):
    items = tuple(MetaEvent(sequence=one, at=0, kind="phase", step=0, message=f"{attempt}.{one}") for one in sequences)
    return MetaEventPage(attempt=attempt, items=items, next_after=sequences[-1] if sequences else after)


def test_the_events_of_a_new_attempt_are_seen_from_its_first():
    client = Script([page(1, 1, 2, 3), page(1, after=3), page(2, after=3), page(2, 1, 2), page(2, after=2)])
    tail = EventTail(client, "mr1")
    assert [event.message for event in tail.unseen()] == ["1.1", "1.2", "1.3"]
    assert [event.message for event in tail.unseen()] == ["2.1", "2.2"]
    assert client.asked == [0, 3, 3, 0, 2]


def view(step, **fields):
    return MetaRunView(
        id="mr1",
        state="RUNNING",
        attempt=1,
        request=MetaRunRequest(datasets=(DatasetChoice(dataset_id="ds1"),)),
        prior_id="made",
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        progress=MetaProgress(**{"phase": "learning", "step": step, "num_steps": 9, "updated_at": 0, **fields}),
        links=MetaRunLinks(self="", events="", artifacts=""),
    )


def test_lines_come_with_steps_every_five_seconds_and_with_no_poll_that_brings_nothing():
    now_s, written = [100.0], io.StringIO()
    lines = MetaLines(Console(file=written, width=200), clock=lambda: now_s[0])
    for step in (1, 1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6):
        now_s[0] += 1
        lines.show(view(step), ())
    for num_tried in (0, 1, 1, 2, 3, 4, 5):
        now_s[0] += 1
        lines.show(view(6, phase="trying", num_tried=num_tried, num_trials=8), ())
    lines.show(view(6, phase="judging"), ())
    assert [line.split("  ETA")[0] for line in written.getvalue().splitlines()] == [
        "[0:00:01] learning  step 1 / 9    0%  slots/s 0.00  data wait 0.0%",
        "[0:00:06] learning  step 5 / 9    0%  slots/s 0.00  data wait 0.0%",
        "[0:00:11] learning  step 6 / 9    0%  slots/s 0.00  data wait 0.0%",
        "[0:00:16] trying  step 6 / 9    0%  slots/s 0.00  data wait 0.0%",
        "[0:00:21] trying  step 6 / 9  trial 4 / 8    0%  slots/s 0.00  data wait 0.0%",
        "[0:00:22] judging  step 6 / 9    0%  slots/s 0.00  data wait 0.0%",
    ]
