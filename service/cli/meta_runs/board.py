"""How a meta-run looks: what it does, how it learns, what it lost, who works. Pure: a view becomes text."""

from collections.abc import Sequence
from datetime import datetime
from statistics import fmean
from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from service.cli.output import table
from service.cli.progress import clock_time, phase_of
from service.schemas import MetaRunView
from workers.contracts.meta_runs import Counters, MetaEvent, MetaProgress

BAR_WIDTH: Final = 24
HELD_OUT: Final = "held-out accuracy "
"""How the names of the curves begin that say how well the prior adapts to held-out tasks."""


def board(view: MetaRunView, events: Sequence[MetaEvent] = ()) -> Group:
    """Return the whole of a run; what matters most stands first, as a low terminal cuts the end.

    Args:
        view: The run.
        events: Its last ones, oldest first.
    """
    parts: list[RenderableType] = [Text(headline(view), style="bold")]
    if view.links.dashboard is not None:
        parts.append(Text(f"its job in Ray: {view.links.dashboard}"))
    if view.progress is not None:
        parts += [_bar(view, view.progress), _facts(view.progress)]
        if view.progress.workers:
            parts.append(_workers(view.progress))
    if events:
        parts.append(event_table(events))
    return Group(*parts)


def headline(view: MetaRunView) -> str:
    """Return in one line which run this is and what it is doing."""
    subject = "compares priors" if view.request.kind == "compare" else f"makes {view.prior_id}"
    name = f" ({view.request.name})" if view.request.name else ""
    message = view.progress.message if view.progress else ""
    return ": ".join(part for part in (f"meta-run {view.id}{name} {subject}", phase_of(view), message) if part)


def numbers(progress: MetaProgress) -> dict[str, str]:
    """Return how the learning goes, by what is measured; what is not known yet is left out."""
    found = {
        "loss": "" if progress.loss is None else f"{progress.loss:.3f}",
        "slots/s": f"{progress.slots_per_s:.2f}",
        "data wait": f"{progress.data_wait:.1%}",
        "staleness": f"{progress.staleness:.2f}",
        "gradient norm": ", ".join(f"{group} {norm:.3g}" for group, norm in progress.gradient_norms.items()),
        "entropy": f"{fmean(progress.entropies):.3f} nats" if progress.entropies else "",
        "held out": held_out(progress),
        "dropped": losses(progress.counters),
    }
    return {name: text for name, text in found.items() if text}


def held_out(progress: MetaProgress) -> str:
    """Return the accuracy on held-out tasks when it was judged last, or nothing where it was not."""
    judged = {
        name.removeprefix(HELD_OUT): curve[-1]
        for name, curve in progress.series.items()
        if curve and name.startswith(HELD_OUT)
    }
    if not judged:
        return ""
    last = max(step for step, _, _ in judged.values())
    return ", ".join(f"{value:.1%} {name}" for name, (_, _, value) in judged.items()) + f" (at step {last})"


def losses(counters: Counters) -> str:
    """Return all that was dropped, repeated or lost; zeros are told too."""
    counted = {
        "not finite": counters.not_finite,
        "stale": counters.stale,
        "duplicate": counters.duplicate,
        "backups": counters.backups,
        "lost workers": counters.lost_workers,
        "steps taken again": counters.recomputed_steps,
    }
    return ", ".join(f"{count} {name}" for name, count in counted.items())


def way(view: MetaRunView) -> str:
    """Return how far a run is, with the time that is left; nothing where it has said nothing yet."""
    progress = view.progress
    if progress is None:
        return ""
    taken = "" if view.request.kind == "compare" else f"step {progress.step:,} / {progress.num_steps:,}  "
    tried = f"trial {progress.num_tried:,} / {progress.num_trials:,}  " if progress.num_tried else ""
    eta = "" if progress.eta_s is None else f"  ETA {clock_time(progress.eta_s)}"
    return f"{taken}{tried}{progress.fraction:4.0%}{eta}"


def event_table(events: Sequence[MetaEvent]) -> Table:
    """Return a table of events with this machine's time of day, oldest first."""
    listed = table("time", "step", "event", "", numbers=frozenset({1}))
    for event in events:
        moment = datetime.fromtimestamp(event.at).astimezone()
        listed.add_row(f"{moment:%H:%M:%S}", f"{event.step:,}", event.kind.replace("_", " "), Text(event.message))
    return listed


def _bar(view: MetaRunView, progress: MetaProgress) -> Table:
    row = Table.grid(padding=(0, 2))
    learned = "" if view.request.kind == "compare" else f"learned {clock_time(progress.elapsed_s)}"
    budget = "" if view.request.budget_s is None else f" of {clock_time(view.request.budget_s)}"
    row.add_row(ProgressBar(total=1.0, completed=progress.fraction, width=BAR_WIDTH), way(view), f"{learned}{budget}")
    return row


def _facts(progress: MetaProgress) -> Table:
    facts = Table.grid(padding=(0, 2))
    shown = numbers(progress)
    if progress.checkpoint_step is not None:
        shown["checkpoint"] = f"of step {progress.checkpoint_step:,}"
    if progress.max_workers is not None:
        shown["cap"] = f"{progress.max_workers} workers for now"
    for change in progress.adjustments:
        shown[f"from step {change.step}"] = f"{change.what} {change.value}: {change.why}"
    for name, text in shown.items():
        facts.add_row(Text(name, style="dim"), Text(text))
    return facts


def _workers(progress: MetaProgress) -> Table:
    listed = table("worker", "node", "process", "device", "state", "does", "slots", numbers=frozenset({2, 6}))
    for worker in progress.workers:
        row = (worker.id, worker.node, str(worker.pid or ""), worker.device, worker.state, worker.doing)
        listed.add_row(*map(Text, row), f"{worker.num_done:,}")
    return listed
