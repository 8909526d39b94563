"""Following a meta-run that goes on by itself: what happens is shown; leaving does not end it."""

from typing import Final, NoReturn

import typer

from service.cli.errors import FAILED
from service.cli.interrupts import interruptible
from service.cli.meta_runs.display import meta_display
from service.cli.meta_runs.outcome import problem_of_end, tell
from service.cli.output import print_json, stdout
from service.client import Client
from service.schemas import MetaRunView
from workers.contracts.meta_runs import MetaEvent

POLL_S: Final = 1.0
DETACHED: Final = 130
"""The exit code of whoever has left before the end, as a shell gives it for Ctrl-C."""


class EventTail:
    """The events of a meta-run that were not seen yet; those of a new attempt begin anew."""

    def __init__(self, client: Client, meta_run_id: str) -> None:
        self._client, self._id = client, meta_run_id
        self._attempt, self._after = 0, 0

    def unseen(self) -> tuple[MetaEvent, ...]:
        """Return them, oldest first."""
        found: list[MetaEvent] = []
        while True:
            page = self._client.events(self._id, after=self._after)
            if page.attempt != self._attempt:
                seen_of_another, self._attempt = self._after, page.attempt
                if seen_of_another:
                    self._after = 0
                    continue
            found += page.items
            self._after = page.next_after
            if not page.items:
                return tuple(found)


def follow_to_end(client: Client, view: MetaRunView, *, as_json: bool) -> None:
    """Show a meta-run until no job of it runs any more, then what came of it.

    Raises:
        ServiceError: It failed or was cancelled.
        typer.Exit: Ctrl-C or SIGTERM; the run goes on.
    """
    try:
        with interruptible(), meta_display(as_json=as_json) as shown:
            tail = EventTail(client, view.id)
            last = client.wait_meta_run(view.id, on_progress=lambda one: shown.show(one, tail.unseen()), poll_s=POLL_S)
    except KeyboardInterrupt:
        _leave(client, view)
    _tell_end(client, last, as_json=as_json)


def _tell_end(client: Client, view: MetaRunView, *, as_json: bool) -> None:
    problem = problem_of_end(view)
    if as_json:
        print_json(view)
        if problem is not None:  # which the view holds already: on stdout it stays the last line
            typer.echo(f"error: {problem}", err=True)
            raise typer.Exit(FAILED)
    elif problem is not None:
        raise problem
    else:
        tell(stdout(), view, client.base_url)


def _leave(client: Client, view: MetaRunView) -> NoReturn:
    place = f"{view.id} --server {client.base_url}"
    typer.echo(f"\n{view.id} goes on without you.", err=True)
    for what, command in _ways_on(view).items():
        typer.echo(f"  {f'{what}:':<31} archprior meta-runs {command} {place}", err=True)
    raise typer.Exit(DETACHED)


def _ways_on(view: MetaRunView) -> dict[str, str]:
    """Return the commands for a run that goes on, by what they do."""
    if view.request.kind == "compare":  # which makes no prior that a stop could keep, so that it is refused
        return {"look again": "follow", "end it": "cancel"}
    return {"look again": "follow", "end it, and keep its prior": "stop", "end it, and keep nothing of it": "cancel"}
