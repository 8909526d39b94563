"""`archprior meta-runs`: learning a prior on a running service, watched and steered."""

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from service.cli.group import group
from service.cli.meta_runs.board import board, event_table, way
from service.cli.meta_runs.following import follow_to_end
from service.cli.meta_runs.outcome import problem_of_end, tell
from service.cli.meta_runs.start import start
from service.cli.options import DEFAULT_LIMIT, DEFAULT_SERVER, JsonOption, LimitOption, RunningServerOption
from service.cli.output import print_files, print_json, stdout, table
from service.cli.progress import phase_of
from service.client import Client
from service.schemas import MetaRunState, MetaRunView

RunArgument = Annotated[str, typer.Argument(metavar="ID", help="A meta-run's id.")]


def list_meta_runs(
    server: RunningServerOption = DEFAULT_SERVER,
    state: Annotated[MetaRunState | None, typer.Option(help="Only those in this state.", show_default=False)] = None,
    limit: LimitOption = DEFAULT_LIMIT,
    as_json: JsonOption = False,
) -> None:
    """List the newest meta-runs."""
    with Client(server) as client:
        page = client.meta_runs(state=state, limit=limit)
    if as_json:
        print_json(page)
        return
    listed = table("meta-run", "name", "state", "stage", "done", "prior", "created")
    for view in page.items:
        listed.add_row(
            view.id,
            Text(view.request.name or ""),
            view.state,
            phase_of(view),
            way(view),
            "" if view.request.kind == "compare" else view.prior_id,
            view.created_at.isoformat(timespec="seconds"),
        )
    stdout().print(listed)


def show(meta_run_id: RunArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False) -> None:
    """Show where a meta-run stands, and what came of it."""
    with Client(server) as client:
        _tell(client.meta_run(meta_run_id), server, as_json=as_json)


def follow(meta_run_id: RunArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False) -> None:
    """Show a meta-run until it ends; Ctrl-C leaves it running. With --json: a line for each event, then the run."""
    with Client(server) as client:
        follow_to_end(client, client.meta_run(meta_run_id), as_json=as_json)


def stop(meta_run_id: RunArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False) -> None:
    """Ask a meta-run to end early and publish the prior so far; one that waits publishes nothing."""
    with Client(server) as client:
        _tell(client.stop_meta_run(meta_run_id), server, as_json=as_json)


def resume(meta_run_id: RunArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False) -> None:
    """Ask a stopped or failed meta-run to go on from its last checkpoint."""
    with Client(server) as client:
        _tell(client.resume_meta_run(meta_run_id), server, as_json=as_json)


def cancel(meta_run_id: RunArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False) -> None:
    """Ask a meta-run to end and publish nothing."""
    with Client(server) as client:
        _tell(client.cancel_meta_run(meta_run_id), server, as_json=as_json)


def events(
    meta_run_id: RunArgument,
    after: Annotated[int, typer.Option(min=0, help="Only those after this sequence number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 200,
    server: RunningServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """List what has happened in a meta-run's current attempt, oldest first."""
    with Client(server) as client:
        page = client.events(meta_run_id, after=after, limit=limit)
    if as_json:
        print_json(page)
    else:
        stdout().print(event_table(page.items))


def download(
    meta_run_id: RunArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the files go.")],
    server: RunningServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Fetch the files of a meta-run that has ended, each checked against its hash."""
    with Client(server) as client:
        artifacts = client.meta_run_artifacts(meta_run_id)
        paths = {one.name: client.download_meta_run(meta_run_id, one, out).absolute() for one in artifacts}
    print_files(paths, as_json=as_json)


meta_runs: Final = group(
    "Meta-runs of a running service: workers learn a new version of the prior.",
    {
        "start": start,
        "list": list_meta_runs,
        "show": show,
        "follow": follow,
        "stop": stop,
        "resume": resume,
        "cancel": cancel,
        "events": events,
        "download": download,
    },
)


def _tell(view: MetaRunView, server: str, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    console = stdout()
    console.print(board(view))
    tell(console, view, server)
    problem = problem_of_end(view)
    if problem is not None:
        console.print(f"error: {problem}", markup=False, soft_wrap=True)
