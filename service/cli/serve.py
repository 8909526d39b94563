"""`archprior serve`: the service, until it is stopped."""

from typing import Annotated

import typer
from pydantic import ValidationError

from service.cli.errors import as_invalid_option
from service.cli.interrupts import exit_on_signals
from service.cli.options import DataDirOption


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
) -> None:
    """Run the service with its local Ray until it is stopped.

    While it listens, its address and process id stand in DIR/service.json. Ctrl-C and SIGTERM end it cleanly.
    """
    exit_on_signals()
    # These imports take seconds that no other command should pay, and the signals count from the start.
    from service.app import create_app
    from service.cli.listening import run
    from service.data_dir import require_free
    from service.settings import Settings

    given = {"host": host, "port": port, "data_dir": data_dir}
    try:
        settings = Settings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        what = "the service cannot run with these settings"
        raise as_invalid_option(what, error, spell=lambda field: f"ARCHPRIOR_{field.upper()}") from error
    # The application claims the folder itself, but what fails in its start is told by a traceback.
    require_free(settings.data_dir)
    run(create_app(settings), settings.host, settings.port, settings.data_dir)
