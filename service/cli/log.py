"""`archprior log`: what the job of an adaptation or a meta-run has printed."""

from typing import Annotated, Final

import typer

from service.cli.options import DEFAULT_SERVER, JsonOption, RunningServerOption
from service.cli.output import plain_lines, print_json
from service.client import Client

META_RUN: Final = "mr"
"""How the ids of meta-runs begin."""


def log(
    work_id: Annotated[str, typer.Argument(metavar="ID", help="Of an adaptation or a meta-run.")],
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Which attempt; the current one if absent.", show_default=False)
    ] = None,
    max_bytes: Annotated[int, typer.Option("--bytes", min=1, max=1 << 20, help="Most bytes of its end.")] = 65_536,
    server: RunningServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Print the end of what a job has printed; Ray keeps it for as long as its head runs."""
    with Client(server) as client:
        read = client.meta_run_log if work_id.startswith(META_RUN) else client.adaptation_log
        text = plain_lines(read(work_id, attempt=attempt, max_bytes=max_bytes))
    if as_json:
        print_json({"id": work_id, "log": text})
    else:
        typer.echo(text, nl=bool(text) and not text.endswith("\n"))
