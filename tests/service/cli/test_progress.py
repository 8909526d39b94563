import io
from datetime import UTC, datetime

import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress

from service.cli import progress
from service.schemas import AdaptationView, Links
from workers.contracts.adaptations import AdaptationRequest, Candidate, Progress

BEST = Candidate(architecture="|..|", query_accuracy=0.876)


def view(state="RUNNING", **fields):
    told = Progress(**{"phase": "searching", "fraction": 0.5, "elapsed_s": 1, "updated_at": 0, **fields})
    return AdaptationView(
        id="ad1",
        state=state,
        attempt=1,
        request=AdaptationRequest(),
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        progress=None if state == "QUEUED" else told,
        links=Links(self="", artifacts=""),
    )


@pytest.fixture
def written():
    return io.StringIO()


@pytest.fixture
def lines(written):
    now_s = [100.0]
    shown = progress.Lines(Console(file=written, width=200), clock=lambda: now_s[0])

    def after(seconds, what):
        now_s[0] += seconds
        (shown.step if isinstance(what, str) else shown.follow)(what)

    return after


def test_lines_come_with_each_phase_and_every_five_seconds(lines, written):
    lines(0, "starting the service")
    lines(1, view("QUEUED"))
    lines(1, view(eta_s=61))
    for _ in range(9):
        lines(1, view(best=BEST, message="step 7"))
    lines(1, view(phase="training", fraction=0.9))
    assert written.getvalue().splitlines() == [
        "[0:00:00] starting the service",
        "[0:00:01] queued",
        "[0:00:02] searching   50%  ETA 0:01:01",
        "[0:00:07] searching   50%  best so far 87.6%  step 7",
        "[0:00:12] training   90%",
    ]


def test_the_bar_shows_phase_share_eta_and_the_best(written):
    console = Console(file=written, width=200, force_terminal=True, no_color=True)
    columns = progress.bar_columns()
    with RichProgress(*columns, console=console, auto_refresh=False) as bar:
        shown = progress.Bar(bar)
        shown.step("uploading")
        bar.refresh()
        shown.follow(view(best=BEST, eta_s=61, message="step 7"))
        bar.refresh()
    for part in ("uploading", "searching: step 7", "50%", "ETA 0:01:01", "best so far 87.6%"):
        assert part in written.getvalue()


def test_markup_in_a_message_is_text(written):
    console = Console(file=written, width=200, force_terminal=True, no_color=True)
    with RichProgress(*progress.bar_columns(), console=console, auto_refresh=False) as bar:
        progress.Bar(bar).follow(view(message="[/bold] [red]"))
    assert "[/bold] [red]" in written.getvalue()


@pytest.mark.parametrize(
    ("quiet", "only_on_terminal", "kind"),
    [(True, False, progress.Silence), (False, True, progress.Silence), (False, False, progress.Lines)],
)
def test_without_a_terminal_there_are_lines_or_nothing(quiet, only_on_terminal, kind):
    with progress.display(quiet=quiet, only_on_terminal=only_on_terminal) as shown:
        assert isinstance(shown, kind)


@pytest.mark.parametrize(
    ("state", "word"), [("QUEUED", "queued"), ("RUNNING", "searching"), ("CANCELLING", "cancelling")]
)
def test_the_phase_in_a_word(state, word):
    assert progress.phase_of(view(state)) == word
