"""`archprior list` and `cancel`: the adaptations of a running service."""

from typing import Annotated

import typer
from rich.text import Text

from service.cli.options import DEFAULT_LIMIT, DEFAULT_SERVER, JsonOption, LimitOption, RunningServerOption
from service.cli.output import print_json, stdout, table
from service.cli.progress import phase_of
from service.client import Client
from service.schemas import AdaptationState, AdaptationView

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="An adaptation's id.")]


def list_adaptations(
    server: RunningServerOption = DEFAULT_SERVER,
    state: Annotated[AdaptationState | None, typer.Option(help="Only those in this state.", show_default=False)] = None,
    limit: LimitOption = DEFAULT_LIMIT,
    as_json: JsonOption = False,
) -> None:
    """List the newest adaptations."""
    with Client(server) as client:
        page = client.adaptations(state=state, limit=limit)
    if as_json:
        print_json(page)
    else:
        _show(*page.items)


def cancel(
    adaptation_id: IdArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Ask an adaptation to stop."""
    with Client(server) as client:
        view = client.cancel(adaptation_id)
    tell_adaptation(view, as_json=as_json)


def tell_adaptation(view: AdaptationView, *, as_json: bool) -> None:
    """Print where an adaptation stands."""
    if as_json:
        print_json(view)
        return
    _show(view)
    if view.error is not None:
        stdout().print(f"error: {view.error.detail or view.error.title}", markup=False, soft_wrap=True)
        if view.error.todo:
            stdout().print(view.error.todo, markup=False, soft_wrap=True)


def _show(*views: AdaptationView) -> None:
    listed = table("adaptation", "name", "state", "phase", "done", "accuracy", "created", numbers=frozenset({4, 5}))
    for view in views:
        listed.add_row(
            view.id,
            Text(view.request.name or ""),
            view.state,
            phase_of(view),
            f"{view.progress.fraction:.0%}" if view.progress else "",
            f"{view.result.accuracy:.1%}" if view.result else "",
            view.created_at.isoformat(timespec="seconds"),
        )
    stdout().print(listed)
