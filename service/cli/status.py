"""`archprior status`: everything at a glance, or one adaptation."""

import sys
import time
from collections.abc import Callable
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live

from search_spaces.errors import InvalidOptionError
from service.cli.interrupts import interruptible
from service.cli.options import DEFAULT_SERVER, JsonOption, RunningServerOption
from service.cli.output import print_json, stdout
from service.cli.overview import overview_screen
from service.cli.records import tell_adaptation
from service.client import Client

REFRESH_S: Final = 3.0


def status(
    adaptation_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="An adaptation's id.", show_default=False)
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show everything anew every few seconds until Ctrl-C.")
    ] = False,
    server: RunningServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Show the cluster, what waits, runs and has failed; or with an ID where that adaptation stands."""
    if watch and (adaptation_id is not None or as_json or not sys.stdout.isatty()):
        raise InvalidOptionError("--watch is for everything at once, on a terminal", todo="Leave it out.")
    with Client(server) as client:
        if adaptation_id is not None:
            tell_adaptation(client.adaptation(adaptation_id), as_json=as_json)
        elif watch:
            watch_overview(client, stdout())
        elif as_json:
            print_json(client.overview())
        else:
            stdout().print(overview_screen(client.overview(), client.base_url))


def watch_overview(client: Client, console: Console, pause: Callable[[float], None] = time.sleep) -> None:
    """Show everything anew, again and again, until Ctrl-C.

    Args:
        client: Of the service.
        console: Where.
        pause: Waits the given number of seconds.
    """
    try:
        with interruptible(), Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                live.update(overview_screen(client.overview(), client.base_url), refresh=True)
                pause(REFRESH_S)
    except KeyboardInterrupt:
        return
