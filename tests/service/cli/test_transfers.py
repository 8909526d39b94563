import io

import pytest
from rich.console import Console
from rich.progress import Progress

from service.cli.transfers import TransferLines, transfer, transfer_columns


@pytest.fixture
def written():
    return io.StringIO()


def test_lines_come_every_five_seconds_and_at_the_end(written):
    now_s = [100.0]
    shown = TransferLines("sending a.zip", "checking", Console(file=written, width=200), clock=lambda: now_s[0])
    for num_bytes in (400_000, 500_000, 600_000, 700_000, 1_000_000):  # the first had arrived before
        shown.sent(num_bytes, 1_000_000)
        now_s[0] += 2.0
    assert written.getvalue().splitlines() == [
        "[0:00:06] sending a.zip   70%  700.0 kB of 1.0 MB  50.0 kB/s  ETA 0:00:06",
        "[0:00:08] sending a.zip  100%  1.0 MB of 1.0 MB  75.0 kB/s  ETA 0:00:00",
        "[0:00:08] checking",
    ]


def test_the_bar_shows_how_much_has_been_sent(written):
    console = Console(file=written, width=200, force_terminal=True, no_color=True)
    with Progress(*transfer_columns(), console=console, auto_refresh=False) as bar:
        task = bar.add_task("sending [a].zip", total=None)
        bar.update(task, completed=700_000, total=1_000_000)
        bar.refresh()
    assert "sending [a].zip" in written.getvalue()
    assert "0.7/1.0 MB" in written.getvalue()


@pytest.mark.parametrize(("only_on_terminal", "lines"), [(True, 0), (False, 2)])
def test_without_a_terminal_there_are_lines_or_nothing(capsys, only_on_terminal, lines):
    with transfer("sending", then="checking", only_on_terminal=only_on_terminal) as sent:
        sent(7, 7)
    assert len(capsys.readouterr().err.splitlines()) == lines
