"""How everything looks at a glance: what fits one screen of 40 lines. Pure: an overview becomes text."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from service.cli.output import one_line
from service.cli.progress import clock_time
from service.schemas import (
    AmountView,
    CheckingDataset,
    ClusterView,
    FailureView,
    Overview,
    RunningWork,
    WaitingWork,
)

NAME_WIDTH: Final = 20
HINT: Final = "`archprior log ID` shows what a job has printed; --json has every link."


def overview_screen(overview: Overview, server: str) -> Group:
    """Return everything; each thing on one line, whatever the width.

    Args:
        overview: What there is.
        server: Address of the service.
    """
    parts: list[RenderableType] = [_head(overview, server)]
    for title, rows in (
        ("running", list(map(_running, overview.running))),
        ("waiting", list(map(_waiting, overview.waiting))),
        ("being checked", list(map(_checking, overview.checking))),
        ("failed lately", list(map(_failed, overview.failures))),
    ):
        if rows:
            parts += [Text(""), Text(title, style="bold"), _table(rows)]
    return Group(*parts, Text(""), _line(HINT, style="dim"))


def _head(overview: Overview, server: str) -> Table:
    free = f"{_gigabytes(overview.free_bytes)} of disk free"
    facts = {
        "service": f"{server} at {_local(overview.at):%Y-%m-%d %H:%M:%S}, {free}",
        "Ray": _cluster(overview.cluster),
        **{f"{kind}s": _counts(counts) for kind, counts in overview.counts.items()},
    }
    table = Table.grid(padding=(0, 2))
    for name, text in facts.items():
        table.add_row(Text(name, style="dim"), _line(text))
    if overview.cluster.dashboard is not None:
        table.add_row(Text("dashboard", style="dim"), _line(overview.cluster.dashboard))
    return table


def _cluster(cluster: ClusterView) -> str:
    if not cluster.reachable:
        return f"cannot be reached: {cluster.why}"
    nodes = "1 node" if cluster.num_nodes == 1 else f"{cluster.num_nodes} nodes"
    amounts = (
        _amount(amount, what) for amount, what in ((cluster.cpus, "CPUs"), (cluster.gpus, "GPUs")) if amount is not None
    )
    return ", ".join((nodes, *amounts))


def _amount(amount: AmountView, what: str) -> str:
    return f"{what}: {amount.total:g}" if amount.used is None else f"{what}: {amount.used:g} of {amount.total:g} in use"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {state.lower()}" for state, number in counts.items() if number) or "none"


def _running(work: RunningWork) -> Iterator[Text]:
    yield _linked(work.id, work.links.dashboard)
    yield _name(work.name)
    yield _line(work.phase if work.state == "RUNNING" else work.state.lower())
    yield _line("" if work.fraction is None else f"{work.fraction:.0%}")
    yield _line("" if work.eta_s is None else f"ETA {clock_time(work.eta_s)}")
    yield _line(f"attempt {work.attempt}")


def _waiting(work: WaitingWork) -> Iterator[Text]:
    yield _line(work.id)
    yield _name(work.name)
    yield _line("next" if work.position == 0 else f"{work.position:,} before it")
    yield _line(f"attempt {work.attempt}" if work.attempt > 1 else "")


def _checking(dataset: CheckingDataset) -> Iterator[Text]:
    yield _line(dataset.id)
    yield _name(dataset.name)
    yield _line(_gigabytes(dataset.num_bytes))
    yield _line(f"since {_local(dataset.since):%H:%M:%S}")


def _failed(failure: FailureView) -> Iterator[Text]:
    yield _line(f"{_local(failure.at):%m-%d %H:%M}")
    yield _line(failure.id)
    yield _name(failure.name)
    yield _line(failure.code)
    yield _line(failure.message)


def _table(rows: Iterable[Iterable[Text]]) -> Table:
    made = Table.grid(padding=(0, 2))
    for row in rows:
        made.add_row(*row)
    return made


def _line(text: str, style: str | Style = "") -> Text:
    """Return text that gives way where the line is too short for it."""
    return Text(one_line(text), style=style, no_wrap=True, overflow="ellipsis")


def _name(name: str) -> Text:
    shown = one_line(name)
    return _line(shown if len(shown) <= NAME_WIDTH else f"{shown[: NAME_WIDTH - 1]}…")


def _linked(text: str, url: str | None) -> Text:
    return _line(text, style=Style(link=url))


def _local(moment: datetime) -> datetime:
    """Return a time as this machine's clock shows it."""
    return moment.astimezone()


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB"
