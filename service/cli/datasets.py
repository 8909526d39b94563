"""`archprior datasets`: what a running service may adapt to and learn from."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer
from rich.text import Text

from service.cli.group import group
from service.cli.inputs import as_archive
from service.cli.options import DEFAULT_LIMIT, DEFAULT_SERVER, JsonOption, LimitOption, RunningServerOption
from service.cli.output import print_json, stderr, stdout, table
from service.client import Client
from service.schemas import DatasetChange, DatasetView

DatasetArgument = Annotated[str, typer.Argument(metavar="ID", help="A dataset's id.")]


def add(
    data: Annotated[
        Path, typer.Argument(metavar="PATH", help="A zip of class folders, a folder of them, or a packed npz.")
    ],
    name: Annotated[
        str | None, typer.Option(help="As people know it; the file's name if absent, without its ending.")
    ] = None,
    meta_use: Annotated[bool, typer.Option("--meta-use", help="Meta-runs may learn from it.")] = False,
    terms: Annotated[
        str | None, typer.Option(help="Under which its images stand, for the cards of priors that learn from it.")
    ] = None,
    server: RunningServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Upload a dataset; of one that was uploaded before, what is given changes and the rest stays."""
    with (
        TemporaryDirectory(prefix="archprior-") as scratch,
        Client(server) as client,
        stderr().status("reading, uploading and checking the dataset"),
    ):
        archive = as_archive(data, Path(scratch))
        view = client.create_dataset(archive, name=name, meta_use=meta_use or None, terms=terms)
    _tell(view, as_json=as_json)


def list_datasets(
    server: RunningServerOption = DEFAULT_SERVER,
    limit: LimitOption = DEFAULT_LIMIT,
    as_json: JsonOption = False,
) -> None:
    """List the newest datasets."""
    with Client(server) as client:
        page = client.datasets(limit=limit)
    if as_json:
        print_json(page)
    else:
        _show(*page.items)


def allow(
    dataset_id: DatasetArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Let meta-runs learn from a dataset."""
    _set_meta_use(dataset_id, True, server, as_json=as_json)


def forbid(
    dataset_id: DatasetArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Keep meta-runs from learning from a dataset."""
    _set_meta_use(dataset_id, False, server, as_json=as_json)


datasets: Final = group(
    "Datasets of a running service: add, list, and say whether meta-runs may learn from them.",
    {"add": add, "list": list_datasets, "allow": allow, "forbid": forbid},
)


def _set_meta_use(dataset_id: str, meta_use: bool, server: str, *, as_json: bool) -> None:
    with Client(server) as client:
        view = client.change_dataset(dataset_id, DatasetChange(meta_use=meta_use))
    _tell(view, as_json=as_json)


def _tell(view: DatasetView, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
    else:
        _show(view)


def _show(*views: DatasetView) -> None:
    listed = table(
        "dataset", "name", "classes", "images", "bytes", "meta-runs", "terms", "created", numbers=frozenset({2, 3, 4})
    )
    for view in views:
        listed.add_row(
            view.id,
            Text(view.name),
            "" if view.report is None else str(len(view.report.classes)),
            "" if view.report is None else f"{view.report.total_images:,}",
            f"{view.num_bytes:,}",
            "may learn from it" if view.meta_use else "may not",
            Text(view.terms),
            view.created_at.isoformat(timespec="seconds"),
        )
    stdout().print(listed)
