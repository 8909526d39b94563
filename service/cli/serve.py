"""`archprior serve`: the service, until it is stopped."""

import os
import threading
import time
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.database import holds_keys, settings_of
from service.cli.interrupts import exit_on_signals, terminate_at_end_of_stdin
from service.cli.options import DataDirOption, JsonOption
from service.cli.output import print_json

if TYPE_CHECKING:
    from service.parts import Parts

POLL_S = 0.2


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; ARCHPRIOR_HOST or loopback if absent.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port to listen on, 0 for a free one; ARCHPRIOR_PORT or 8000 if absent.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
    end_with_stdin: Annotated[bool, typer.Option("--end-with-stdin", hidden=True)] = False,
) -> None:
    """Run the service with its local Ray until it is stopped.

    While it listens, its address and process id stand in DIR/service.json; with --json they are printed too, in one
    line with the Ray dashboard's address, once the service can take work. Ctrl-C, SIGTERM and a closed terminal end it
    cleanly.
    """
    exit_on_signals()
    if end_with_stdin:
        terminate_at_end_of_stdin()
    # These imports take seconds that no other command should pay, and the signals count from the start.
    from service.app import create_app
    from service.cli.listening import run
    from service.data_dir import require_free
    from service.settings import no_keys

    settings = settings_of(host=host, port=port, data_dir=data_dir)
    # The application refuses all that itself, records that do not answer too, but what fails in its start is told by a
    # traceback.
    if not (holds_keys(settings) or settings.may_be_open):
        raise no_keys(settings.host)
    require_free(settings.data_dir)
    app = create_app(settings)

    def tell_later(url: str) -> None:
        told = {"url": url, "data_dir": str(settings.data_dir), "pid": os.getpid()}
        threading.Thread(target=_tell_when_ready, args=(app.state.parts, told), name="ready", daemon=True).start()

    def end_streams() -> None:
        app.state.parts.hub.close()

    run(app, settings.host, settings.port, settings.data_dir, tell_later if as_json else None, end_streams)


def _tell_when_ready(parts: "Parts", told: dict[str, object]) -> None:
    while not parts.readiness().ok:
        time.sleep(POLL_S)
    print_json({**told, "dashboard": parts.cluster.dashboard_url})
