"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print one line of JSON in place of text.")]
ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="Address of a running service.", show_default=False)
]
DEFAULT_SERVER = "http://127.0.0.1:8000"
RunningServerOption = Annotated[str, typer.Option("--server", metavar="URL", help="Address of a running service.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=100, help="How many at most.")]
DEFAULT_LIMIT = 20
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Where the service keeps its records and objects.", show_default=False
    ),
]
