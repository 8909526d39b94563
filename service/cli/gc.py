"""`archprior gc`: what a service could remove, and removing it."""

from typing import Annotated

import typer
from rich.text import Text

from service.cli.options import DEFAULT_SERVER, JsonOption, RunningServerOption
from service.cli.output import print_json, stderr, stdout, table
from service.client import Client
from service.schemas import GcReport

MAX_SHOWN = 50


def gc(
    apply: Annotated[bool, typer.Option("--apply", help="Remove it; else it is only shown.")] = False,
    server: RunningServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Show what nobody needs any more on a service, of all owners, or remove it. Takes an operator's key."""
    with Client(server) as client:
        report = client.gc(apply=apply)
    if as_json:
        print_json(report)
    else:
        _show(report)


def _show(report: GcReport) -> None:
    listed = table("kind", "what", "objects", "bytes", "why", numbers=frozenset({2, 3}))
    for item in report.items[:MAX_SHOWN]:
        objects, num_bytes = (f"{item.num_objects:,}", f"{item.num_bytes:,}") if item.num_objects else ("", "")
        listed.add_row(item.kind, Text(item.what), objects, num_bytes, item.why)
    if report.items:
        stdout().print(listed)
    more = report.num_items - MAX_SHOWN
    rest = f", {more:,} of them not shown" if more > 0 else ""
    stdout().print(
        f"{report.num_items:,} things{rest}, {report.num_bytes:,} bytes, "
        + ("removed." if report.applied else "could be removed."),
        markup=False,
    )
    if report.num_items and not report.applied:
        stderr().print("Nothing was removed: `archprior gc --apply` does.", markup=False)
